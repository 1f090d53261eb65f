"""Every Python block of the README and of the documentation runs, against a real server and with a real worker.

The blocks of a page share one namespace and run in order, statement by statement; `await` may stand at the top. Each app
that a page makes gets a worker in a thread of its own at once, unless the page calls `app.run()` itself. A block with
`title="shop.py"` lends the page's namespace the name of that module, so that later blocks can import from it. Pages leave
the URL of Redis out, so that they find the server of the test.

Below that, the lists of the reference pages are compared with the code.
"""

import ast
import asyncio
import re
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

import ardiq
import ardiq.errors
from ardiq import Ardiq
from ardiq.options import _DEFAULTS
from ardiq.task import TaskOptions
from ardiq_cli.exits import ExitCode
from ardiq_cli.main import app as command_line
from benchmarks.page import FIGURES, filled
from benchmarks.report import read
from tests.servers import Server

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(
    r'^(?P<indent> *)```python(?: title="(?P<title>\w+)\.py")?\n(?P<code>.*?)^ *```$', re.DOTALL | re.MULTILINE
)
ANY_PYTHON = re.compile(r"^ *(```+|~~~+) *\{?\.?py", re.MULTILINE)
STOP_TIMEOUT_S = 20.0


class Block(NamedTuple):
    """A piece of Python on a page."""

    page: Path
    line: int
    title: str | None
    code: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in FENCE.finditer(text):
        indent = len(match["indent"])
        code = "".join(line[indent:] for line in match["code"].splitlines(keepends=True))
        found.append(Block(page, text.count("\n", 0, match.start("code")), match["title"], code))
    return found


class Worker:
    """A worker of an app of a page, in a thread with a loop of its own."""

    def __init__(self, app: Ardiq) -> None:
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="docs-worker", daemon=True)
        self._thread.start()
        assert self._ready.wait(STOP_TIMEOUT_S), "the worker's thread did not start"

    def close(self) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # it has ended by itself; the error is raised below
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_TIMEOUT_S)
        assert not self._thread.is_alive(), "the worker of a page did not stop"
        if self._error is not None:
            raise self._error

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - it is raised by close()
            self._error = error

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        running = asyncio.create_task(self._app.run())
        await asyncio.sleep(0)  # the run has begun: from now on stop() reaches it
        self._ready.set()
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self._app.stop()
        await running


class Page:
    """Runs the blocks of one page."""

    def __init__(self, url: str, *, with_workers: bool) -> None:
        self._module = types.ModuleType("__main__")  # what a page does `if __name__ == "__main__"`, it does here
        self._url = url
        self._with_workers = with_workers
        self._workers: dict[Ardiq, Worker] = {}
        self._runner = asyncio.Runner()
        self._lent: list[str] = []

    def run(self, block: Block) -> None:
        if block.title is not None and block.title not in self._lent:
            assert block.title not in sys.modules, f"{block.title} is a module already"
            sys.modules[block.title] = self._module
            self._lent.append(block.title)
        tree = ast.parse(block.code, filename=f"{block.page.name} (block)")
        ast.increment_lineno(tree, block.line)
        for statement in tree.body:
            self._step(statement, str(block.page))

    def close(self) -> None:
        with ExitStack() as steps:
            for name in self._lent:
                steps.callback(sys.modules.pop, name)
            steps.callback(self._runner.close)
            for worker in self._workers.values():
                steps.callback(worker.close)

    def _step(self, statement: ast.stmt, filename: str) -> None:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(ast.Module([statement], []), filename, "exec", flags=flags, dont_inherit=True)
        result = eval(code, vars(self._module))
        if asyncio.iscoroutine(result):
            self._runner.run(result)
        for value in list(vars(self._module).values()):
            if isinstance(value, Ardiq) and value not in self._workers:
                assert value.redis_url == self._url, f"{filename} names a server of its own"
                if self._with_workers:
                    self._workers[value] = Worker(value)


@contextmanager
def running(page: Path, url: str) -> Iterator[Page]:
    own = any("app.run(" in block.code for block in blocks(page))
    one = Page(url, with_workers=not own)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(
    page: Path, make_server: Callable[[], Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = make_server()  # one for each page: their queues have names that readers remember, and so the same ones
    monkeypatch.setenv("ARDIQ_REDIS_URL", server.url)
    monkeypatch.chdir(tmp_path)
    with running(page, server.url) as one:
        for block in blocks(page):
            one.run(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_python_is_fenced_in_a_way_that_is_not_run(page: Path) -> None:
    assert len(ANY_PYTHON.findall(page.read_text(encoding="utf-8"))) == len(blocks(page))


def test_the_pages_that_must_have_code_have_some() -> None:
    assert [name for name in ("README.md", "docs/index.md", "docs/tutorial.md") if not blocks(ROOT / name)] == []


@pytest.mark.parametrize(
    ("code", "error"),
    [("1 / 0", ZeroDivisionError), ("import asyncio\nawait asyncio.wait_for(asyncio.Event().wait(), 0)", TimeoutError)],
)
def test_a_block_that_is_wrong_fails(code: str, error: type[Exception]) -> None:
    page = Page("", with_workers=False)
    try:
        with pytest.raises(error):
            page.run(Block(Path("wrong.md"), 1, None, code))
    finally:
        page.close()


# The reference pages against the code.


def first_cells(page: str, heading: str) -> list[str]:
    """The names in the first column of the table below a heading, without their backticks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    part = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    part = re.split(r"^#", part, flags=re.MULTILINE)[0]
    return re.findall(r"^\| `([^`]+)`", part, flags=re.MULTILINE)


def test_the_configuration_page_lists_every_option() -> None:
    assert sorted(first_cells("reference/configuration.md", "The app")) == sorted(_DEFAULTS)


@pytest.mark.parametrize("name", sorted(_DEFAULTS))
def test_the_configuration_page_has_the_default(name: str) -> None:
    text = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    default = _DEFAULTS[name]
    if default is not None:  # None stands for words
        assert f"`{default!r}`".replace("'", '"') == row.split("|")[3].strip().replace("_", ""), row


def test_the_configuration_page_lists_every_option_of_a_task() -> None:
    assert sorted(first_cells("reference/configuration.md", "A task")) == sorted(TaskOptions.__annotations__)


def test_the_configuration_page_lists_every_option_of_a_call() -> None:
    import inspect

    parameters = set(inspect.signature(ardiq.Task.options).parameters) - {"self", "unknown"}
    assert set(first_cells("reference/configuration.md", "A call")) == parameters


def test_the_errors_page_lists_every_error() -> None:
    public = {
        name
        for name in ardiq.__all__
        if isinstance(value := getattr(ardiq, name), type) and issubclass(value, Exception)
    }
    control = {"Retry", "Reject"}
    assert set(first_cells("reference/errors.md", "Raised by ArdiQ")) == public - control == set(ardiq.errors.__all__)


def commands(group: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """All commands with their names; groups in them are looked into."""
    found: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found += commands(command, f"{name} ") if inner else [(prefix + name, command)]
    return found


COMMANDS = commands(typer.main.get_command(command_line))


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_command_line_page_lists_every_option(name: str, command: Any) -> None:
    words = [word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)]
    options = {word for word in words if word.startswith("-")}
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    part = re.split(rf"^## `ardiq {re.escape(name)}.*`$", page, flags=re.MULTILINE)[1]
    part = re.split(r"^## ", part, flags=re.MULTILINE)[0]
    listed = {
        word for row in re.findall(r"^\| (.+?) \|", part, flags=re.MULTILINE) for word in re.findall(r"`(-[\w-]+)", row)
    }
    assert listed == options


def test_the_command_line_page_lists_every_exit_code() -> None:
    assert [int(code) for code in first_cells("reference/cli.md", "Exit codes")] == [code.value for code in ExitCode]


def test_the_figures_of_the_performance_page_are_those_that_were_measured() -> None:
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert filled(page, read(FIGURES)["rounds"]) == page, "stale: python -m benchmarks.page"

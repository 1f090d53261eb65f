"""A reader of the documentation who does what a page says, in order, in an empty directory.

Python blocks with a title are files: `title="shop.py"` writes one and `title="append to shop.py"`
adds to it. Each is imported as the module that it claims to be; one with a main part is also run as
a program. Python blocks without a title are typed into one session that has the names of the files
so far; `await` may stand at the top.

Console blocks go to one shell. The lines below a command are the output to expect, where `…` stands
for anything, and a line of its own for any number of lines. Servers and workers run in the
background until the page ends, or until the page starts the same one again, and `PID` stands for
the process id of the last one. Nothing of a block below `<!-- not run: REASON -->` is run.
"""

import ast
import asyncio
import importlib
import os
import re
import shlex
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ardiq import Ardiq
from ardiq.host import Host
from tests.programs import Program, eventually

FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^\n]+?) -->\n\s*?)?"
    r"^(?P<indent> *)```(?P<language>[\w-]+)(?P<options>[^\n]*)\n(?P<code>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
TITLE = re.compile(r'^ title="(?P<append>append to )?(?P<name>[^"]+)"$')
READY = {"ardiq": "serves queue", "uvicorn": "Uvicorn running on"}
STOP_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 90.0


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str | None
    appends: bool
    code: str
    not_run: str | None

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """The commands of a console block, each with the lines of output below it."""
        found: list[tuple[str, list[str]]] = []
        for line in self.code.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found and found[-1][0].endswith("\\"):
                found[-1] = (f"{found[-1][0]}\n{line}", [])
            elif found:
                found[-1][1].append(line)
            elif line.strip():
                raise AssertionError(f"{self.page.name}:{self.line}: a console block begins with a command")
        return found


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page that name a language."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in FENCE.finditer(text):
        indent = len(match["indent"])
        code = "".join(line[indent:] for line in match["code"].splitlines(keepends=True))
        title = TITLE.match(match["options"])
        assert title or not match["options"], f"{page.name}: not understood: {match['options']}"
        name, appends = (title["name"], bool(title["append"])) if title else (None, False)
        line = text.count("\n", 0, match.start("code"))
        found.append(Block(page, line, match["language"], name, appends, code, match["reason"]))
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


class Shell:
    """The reader's terminals: one shell in the foreground, and programs that keep running beside
    it.
    """

    def __init__(self, directory: Path, environment: dict[str, str], logs: Path) -> None:
        self._directory = directory
        self._environment = environment
        self._logs = logs
        self._count = 0
        self._background: dict[str, Program] = {}
        self._pid: int | None = None
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, expected: list[str]) -> None:
        """Run one command and compare its output; start it in the background if it is a server or a
        worker.
        """
        words = shlex.split(command, comments=True)
        if is_background(words):
            self._start(words)
            return
        if "PID" in words:
            assert self._pid is not None, f"there is no process for {command}"
            command = command.replace("PID", str(self._pid))
        status, output = self._foreground(command)
        assert status == 0, f"$ {command}\n{output}\nexit status {status}"
        pattern = "\n".join("(?s:.*)" if line == "…" else re.escape(line).replace("…", ".*") for line in expected)
        if expected and not re.fullmatch(pattern, output.rstrip("\n")):
            raise AssertionError(f"$ {command}\n{output}\ninstead of\n" + "\n".join(expected))

    def close(self) -> None:
        for program in self._background.values():
            program.close()
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._bash.kill()
        self._bash.wait()

    def _log(self) -> Path:
        self._count += 1
        return self._logs / f"output-{self._count}"

    def _start(self, words: list[str]) -> None:
        command = shlex.join(words)
        before = self._background.pop(command, None)
        if before is not None:
            before.process.terminate()
            before.end()
        program = self._background[command] = Program(words, self._log(), self._directory, self._environment)
        program.await_output(READY[words[0]])
        self._pid = program.pid

    def _foreground(self, command: str) -> tuple[int, str]:
        output = self._log()
        status, unfinished = output.with_suffix(".status"), output.with_suffix(".unfinished")
        lines = [
            f"{{ {command}",
            f"}} </dev/null >{shlex.quote(str(output))} 2>&1",
            f"echo $? >{shlex.quote(str(unfinished))}; mv {shlex.quote(str(unfinished))} {shlex.quote(str(status))}",
        ]
        assert self._bash.stdin is not None
        print(*lines, sep="\n", file=self._bash.stdin, flush=True)
        eventually(status.exists, lambda: f"the end of $ {command}\n{output.read_text()}", COMMAND_TIMEOUT_S)
        return int(status.read_text()), output.read_text(errors="replace")


def is_background(words: list[str]) -> bool:
    """Whether a command keeps running: a worker or a web server."""
    return words[0] == "uvicorn" or (words[:2] in (["ardiq", "run"], ["ardiq", "dev"]) and "--burst" not in words)


class Page:
    """Follows one page."""

    def __init__(self, page: list[Block], url: str, directory: Path, logs: Path) -> None:
        self._blocks = page
        self._url = url
        self._directory = directory
        self._modules: dict[str, types.ModuleType] = {}
        self._session = types.ModuleType("__main__")
        self._workers: dict[Ardiq, tuple[str, Worker]] = {}
        self._runner = asyncio.Runner()
        bin_directory = str(Path(sys.executable).parent)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))},
            "ARDIQ_REDIS_URL": url,
            "PATH": os.pathsep.join([bin_directory, os.environ["PATH"]]),
            "COLUMNS": "100",
        }
        commands = [command for block in page for command, _ in _commands_to_run(block)]
        self._lends_workers = not any("app.run(" in block.code for block in page)
        # The modules whose apps get no worker here, since the page starts one itself.
        self._served = {
            word.partition(":")[0]
            for command in commands
            for word in shlex.split(command, comments=True)
            if re.match(r"ardiq (run|dev) ", command) and ":" in word
        }
        self._programs = {word for command in commands for word in shlex.split(command, comments=True)}
        self._shell = Shell(directory, environment, logs)

    def follow(self) -> None:
        """Do all that the page says."""
        for block in self._blocks:
            if block.not_run is None:
                self.step(block)

    def step(self, block: Block) -> None:
        """Do what one block says."""
        if block.title is not None:
            self._write(block)
        elif block.language == "python":
            tree = ast.parse(block.code, filename=f"{block.page.name} (block)")
            ast.increment_lineno(tree, block.line)
            for statement in tree.body:
                self._type(statement, str(block.page))
        else:
            for command, expected in _commands_to_run(block):
                self._shell.run(command, expected)

    def close(self) -> None:
        with ExitStack() as steps:
            for name in self._modules:
                steps.callback(sys.modules.pop, name, None)
            steps.callback(self._runner.close)
            for _, worker in self._workers.values():
                steps.callback(worker.close)
            steps.callback(self._shell.close)

    def _write(self, block: Block) -> None:
        assert block.title is not None
        file = self._directory / block.title
        assert file.exists() == block.appends, f"{block.page.name}: {file.name} must be written once, then appended to"
        file.write_text(f"{file.read_text()}\n\n{block.code}" if block.appends else block.code)
        if file.suffix != ".py" or file.name.startswith("test_"):  # pytest runs the latter
            return
        text = file.read_text()
        is_module = "Ardiq(" in text
        if is_module:
            self._import(file)
        if (not is_module or "__main__" in text) and file.name not in self._programs:
            self._shell.run(f"python {file.name}", [])

    def _import(self, file: Path) -> None:
        name = file.stem
        for app, (module, worker) in list(self._workers.items()):
            if module == name:  # it serves an older state of the file
                worker.close()
                del self._workers[app]
        assert name in self._modules or name not in sys.modules, f"{name} is a module already"
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        loaded = self._modules[name] = importlib.import_module(name)
        vars(self._session).update({key: value for key, value in vars(loaded).items() if not key.startswith("__")})
        self._serve(vars(loaded), name, serves=self._lends_workers and name not in self._served)

    def _type(self, statement: ast.stmt, filename: str) -> None:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(ast.Module([statement], []), filename, "exec", flags=flags, dont_inherit=True)
        result = eval(code, vars(self._session))
        if asyncio.iscoroutine(result):
            self._runner.run(result)
        self._serve(vars(self._session), "", serves=self._lends_workers and not self._served)

    def _serve(self, names: dict[str, object], module: str, serves: bool) -> None:
        for value in list(names.values()):
            if isinstance(value, Ardiq) and value not in self._workers:
                assert value.redis_url == self._url, f"{module} names a server of its own"
                # An app of a module that only names tasks would return their jobs to the queue.
                if serves and (not module or Host(value).tasks):
                    self._workers[value] = module, Worker(value)


def _commands_to_run(block: Block) -> list[tuple[str, list[str]]]:
    return block.commands if block.language == "console" and block.not_run is None else []


@contextmanager
def reading(page: list[Block], url: str, directory: Path, logs: Path) -> Iterator[Page]:
    """Follow a page in `directory`; what was started is ended."""
    sys.path.insert(0, str(directory))
    one = Page(page, url, directory, logs)
    try:
        yield one
    finally:
        sys.path.remove(str(directory))
        one.close()

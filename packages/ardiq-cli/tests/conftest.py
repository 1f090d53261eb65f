"""Fixtures of the command line's tests: a project in which to start programs."""

import os
import shutil
import subprocess
import sys
import termios
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ardiq_cli import main
from ardiq_cli.embedded import project_place
from tests.development import TASKS
from tests.programs import DEADLINE_S, Program, StartProgram

NOWHERE = "unix:///nonexistent/ardiq.sock"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty directory that is a project of its own."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "pyproject.toml").touch()
    return directory


@pytest.fixture
def environment() -> dict[str, str]:
    """This environment without what would change the command line's behavior.

    Its Redis is one that cannot exist: a command that a test forgot to give a server must not find
    a server that belongs to the user.
    """
    unwanted = {"ARDIQ_DEMO_QUEUE", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "ARDIQ_REDIS_URL": NOWHERE}


@pytest.fixture
def without_url(environment: dict[str, str]) -> None:
    """Take the URL away, for the commands that then start a server of their own."""
    del environment["ARDIQ_REDIS_URL"]


@pytest.fixture
def url(project: Path, module: Callable[[str], None], without_url: None) -> str:
    """Where the project's development server will be; its `tasks.py` has a task."""
    module(TASKS)
    return project_place(project).url


@pytest.fixture
def start(tmp_path: Path, project: Path, environment: dict[str, str]) -> Iterator[StartProgram]:
    """A function that starts a Python program in `project`: takes its arguments and further
    environment variables.
    """
    programs: list[Program] = []

    def begin(*arguments: str, **variables: str) -> Program:
        output = tmp_path / f"output-{len(programs)}"
        program = Program([sys.executable, *arguments], output, project, {**environment, **variables})
        programs.append(program)
        return program

    yield begin
    for program in programs:
        program.close()


@pytest.fixture
def ardiq(start: StartProgram) -> StartProgram:
    """A function that starts `ardiq` in `project`: takes its arguments and further environment
    variables.
    """

    def begin(*arguments: str, **variables: str) -> Program:
        return start("-m", "ardiq_cli", *arguments, **variables)

    return begin


Ask = Callable[..., subprocess.CompletedProcess[str]]
OnTerminal = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(project: Path, environment: dict[str, str]) -> Ask:
    """A function that runs `ardiq` in `project` to its end and returns the status, standard output
    and standard error.
    """

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ardiq_cli", *arguments],
            cwd=project,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


@pytest.fixture
def ask_here(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """As `ask`, but in this process, which takes a tenth of the time: for commands that only
    read.
    """
    monkeypatch.setenv("ARDIQ_REDIS_URL", NOWHERE)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(main.app, arguments)
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def on_terminal(project: Path, environment: dict[str, str]) -> OnTerminal:
    """As `ask`, but on a real terminal. Returns the status and the output."""

    def run(*arguments: str, columns: int = 120, **variables: str) -> tuple[int, str]:
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (40, columns))
        process = subprocess.Popen(
            [sys.executable, "-m", "ardiq_cli", *arguments],
            cwd=project,
            env={**environment, "TERM": "xterm", **variables},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux raises this when no process has the terminal open any more
                break
            if not piece:
                break
            written += piece
        os.close(ours)
        return process.wait(DEADLINE_S), written.decode(errors="replace")

    return run


@pytest.fixture
def module(project: Path) -> Callable[[str], None]:
    """A function that writes the project's `tasks.py`."""

    def write(source: str) -> None:
        (project / "tasks.py").write_text(textwrap.dedent(source))
        # Python takes a file of the same size and the same second for the same file.
        shutil.rmtree(project / "__pycache__", ignore_errors=True)

    return write

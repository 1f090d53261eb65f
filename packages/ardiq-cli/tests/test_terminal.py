"""Ctrl-C, and input, on a real terminal: the kernel sends signals to every process of the
foreground group.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ardiq import Ardiq, TaskStatus
from ardiq_cli.embedded import project_place
from ardiq_cli.exits import ExitCode
from tests.programs import DEADLINE_S, eventually
from tests.servers import Server

Module = Callable[[str], None]

CTRL_C = "\x03"

TASKS = """
    import asyncio, pathlib
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})

    @app.task
    async def nap(seconds):
        pathlib.Path("started").touch()
        await asyncio.sleep(seconds)
        return "slept"

    @app.task
    async def debug():
        found = 40
        breakpoint()
        return found
"""


class Terminal:
    """A program whose controlling terminal is ours."""

    def __init__(self, arguments: list[str], cwd: Path, env: dict[str, str]) -> None:
        self._ours, theirs = os.openpty()
        self.process = subprocess.Popen(
            arguments, cwd=cwd, env={**env, "TERM": "xterm"}, preexec_fn=lambda: os.login_tty(theirs)
        )
        os.close(theirs)
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # Linux raises this when no process has the terminal open any more
                return
            if not piece:
                return
            self._written += piece

    @property
    def output(self) -> str:
        return self._written.decode(errors="replace")

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def await_output(self, text: str) -> None:
        eventually(lambda: text in self.output, lambda: f"{text!r} in the output:\n{self.output}")

    def end(self) -> int:
        eventually(lambda: self.process.poll() is not None, lambda: self.output)
        status = self.process.returncode
        self._reader.join(DEADLINE_S)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(project: Path, environment: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    """A function that starts `ardiq` in `project` on a terminal of its own."""
    started: list[Terminal] = []

    def start(*arguments: str, **variables: str) -> Terminal:
        command = [sys.executable, "-m", "ardiq_cli", *arguments]
        started.append(Terminal(command, project, {**environment, **variables}))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize("options", [("run",), ("run", "-w", "2"), ("dev",)], ids=" ".join)
def test_the_first_interrupt_waits_and_says_what_the_second_one_does(
    options: tuple[str, ...],
    terminal: Callable[..., Terminal],
    module: Module,
    server: Server,
    queue_name: str,
    project: Path,
) -> None:
    module(TASKS.format(queue=queue_name))
    command, *rest = options
    program = terminal(command, "tasks:app", *rest, ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    job = Ardiq(server.url, queue_name).ref("nap").enqueue_sync(600)
    eventually(lambda: (project / "started").exists(), "the start of the task")
    eventually(lambda: job.status_sync() is TaskStatus.RUNNING, "the record of the start")
    program.press(CTRL_C)
    program.await_output("press Ctrl-C again, or send SIGTERM, to return running tasks to the queue at once")
    program.await_output("1 running task has 30 s to finish")
    assert job.status_sync() is TaskStatus.RUNNING, "one key counts once, however many processes it reaches"
    program.press(CTRL_C)
    assert program.end() == ExitCode.OK, program.output
    assert job.status_sync() is TaskStatus.QUEUED
    assert program.output.count("press Ctrl-C again") == 1
    assert "Traceback" not in program.output


def test_an_interrupt_lets_a_task_of_dev_finish(
    terminal: Callable[..., Terminal], module: Module, server: Server, queue_name: str, project: Path
) -> None:
    module(TASKS.format(queue=queue_name))
    program = terminal("dev", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    job = Ardiq(server.url, queue_name).ref("nap").enqueue_sync(1.0)
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.press(CTRL_C)
    assert program.end() == ExitCode.OK, program.output
    result = job.result_sync()
    assert result is not None
    assert (result.value, result.tries) == ("slept", 1)


def test_a_task_of_dev_can_be_debugged(
    terminal: Callable[..., Terminal], module: Module, project: Path, without_url: None
) -> None:
    module(TASKS.format(queue="shop"))
    program = terminal("dev", "tasks:app")
    program.await_output(" serves ")
    client = Ardiq(redis_url=project_place(project).url, queue_name="shop")
    job = client.ref("debug").enqueue_sync()
    program.await_output("(Pdb)")
    program.press("found = 42\n")
    program.press("c\n")
    result = job.result_sync(timeout=20)
    assert result is not None
    assert result.value == 42
    program.await_output(" succeeded in ")
    # The debugger has installed its own handler of Ctrl-C.
    program.press(CTRL_C)
    assert program.end() == ExitCode.OK, program.output

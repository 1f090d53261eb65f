"""SIGQUIT shows what a worker does, whatever its tasks await."""

import signal
from collections.abc import Callable
from pathlib import Path

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram, eventually
from tests.servers import Server

TASKS = """
    import asyncio, os, pathlib
    from collections.abc import Coroutine
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})

    async def wait():
        pathlib.Path("started").touch()
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)

    class Odd:
        def __init__(self, inner): self.inner = inner
        def __await__(self): return self.inner.__await__()
        def send(self, value): return self.inner.send(value)
        def throw(self, *error): return self.inner.throw(*error)
        def close(self): return self.inner.close()
        @property
        def cr_frame(self): raise KeyError("no frame")

    class Circular(Odd):
        cr_frame = None
        @property
        def cr_await(self): return self

    Coroutine.register(Odd)

    @app.task(max_retries=0)
    async def odd():
        await asyncio.gather(*(asyncio.create_task(kind(wait())) for kind in (Odd, Circular)))
"""


BUSY = """
    import os, pathlib, time
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})

    def compute():
        pathlib.Path("started").touch()
        while not os.path.exists("go"):
            time.sleep(0.01)

    @app.task(max_retries=0)
    async def busy():
        compute()
"""


def test_the_innermost_frame_of_a_running_task_is_shown(
    server: Server, ardiq: StartProgram, project: Path, module: Callable[[str], None], queue_name: str
) -> None:
    module(BUSY.format(queue=queue_name))
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    Ardiq(server.url, queue_name).ref("busy").enqueue_sync()
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGQUIT)

    def shown() -> str:
        return program.output.partition("asyncio tasks (")[2]

    eventually(lambda: "in compute" in shown(), shown)
    places = [line.rpartition(" in ")[2] for line in shown().splitlines() if line.startswith("  File")]
    assert places[places.index("busy") :][:2] == ["busy", "compute"], "the innermost last"
    (project / "go").touch()
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


def test_stacks_are_shown_whatever_tasks_await(
    server: Server, ardiq: StartProgram, project: Path, module: Callable[[str], None], queue_name: str
) -> None:
    module(TASKS.format(queue=queue_name))
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    job = Ardiq(server.url, queue_name).ref("odd").enqueue_sync()
    eventually(lambda: (project / "started").exists(), "the start of the task")
    for count in (1, 2):
        program.send(signal.SIGQUIT)
        program.await_output("asyncio tasks (", count)
        program.await_output("a task that cannot be shown (KeyError)", count)
    (project / "go").touch()
    result = job.result_sync(timeout=20)
    assert (result.success, result.tries) == (True, 1)
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK

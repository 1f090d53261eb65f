"""Processes that a task forks, and asyncio tasks that end the program."""

from pathlib import Path

import pytest

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram
from tests.servers import Server

TASKS = """
    import asyncio, contextlib, os, pathlib, sys, threading
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r}, concurrency=2)
    ENDS = {{
        "return": lambda: None, "raise": lambda: 1 / 0, "exit": sys.exit, "exit 3": lambda: sys.exit(3),
        "exit text": lambda: sys.exit("why"),
    }}

    def forked(how):
        child = os.fork()
        if child == 0:
            print("a line that is buffered in the child")
            ENDS[how]()
            return "the child's"
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    @app.task(max_retries=0)
    def in_thread(how):
        return forked(how)

    @app.task(max_retries=0)
    async def on_loop(how):
        return forked(how)

    @app.task
    async def other(number):
        with open("ran", "a") as file:
            file.write(f"{{number}} {{os.getpid()}}\\n")

    async def leave(status):
        sys.exit(status)

    async def interrupt():
        raise KeyboardInterrupt

    @app.task(max_retries=0)
    async def gathers(status):
        await asyncio.gather(leave(status))

    @app.task(max_retries=0)
    async def groups(status):
        async with asyncio.TaskGroup() as group:
            group.create_task(leave(status))

    @app.task(max_retries=0)
    async def interrupted(status):
        await asyncio.create_task(interrupt())

    @app.task(max_retries=0)
    async def calls(status):
        asyncio.get_running_loop().call_soon(sys.exit, status)
        await asyncio.sleep(0.01)
"""


@pytest.fixture
def app(server: Server, queue_name: str, module: StartProgram) -> Ardiq:
    module(TASKS.format(queue=queue_name))
    return Ardiq(redis_url=server.url, queue_name=queue_name)


@pytest.mark.parametrize("task", ["in_thread", "on_loop"])
def test_a_task_that_forks_ends_in_the_child_with_the_child(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, task: str
) -> None:
    ends = {"return": 0, "raise": 1, "exit": 0, "exit 3": 3, "exit text": 1}
    jobs = {how: app.ref(task).enqueue_sync(how) for how in ends}
    for number in range(20):
        app.ref("other").enqueue_sync(number)
    program = ardiq("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    assert program.end(60) == ExitCode.OK, program.output
    found = {how: job.result_sync() for how, job in jobs.items()}
    assert {how: result and result.value for how, result in found.items()} == ends
    assert program.output.count("a line that is buffered in the child") == len(ends)
    assert "ZeroDivisionError" in program.output
    lines = (project / "ran").read_text().splitlines()
    assert len(lines) == 20, "a child ran jobs of its parent"
    assert len({line.split()[1] for line in lines}) == 1


@pytest.mark.parametrize("status", [0, 3])
@pytest.mark.parametrize("task", ["gathers", "groups", "interrupted", "calls"])
def test_an_asyncio_task_that_leaves_the_program_fails_its_job_and_not_the_worker(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, task: str, status: int
) -> None:
    job = app.ref(task).enqueue_sync(status)
    for number in range(20):
        app.ref("other").enqueue_sync(number)
    program = ardiq("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    assert program.end(60) == (ExitCode.OK if task == "calls" else ExitCode.FAILED), program.output
    result = job.result_sync()
    assert result is not None
    assert (result.success, result.tries) == (task == "calls", 1)
    assert "the worker continues" in program.output
    assert len((project / "ran").read_text().splitlines()) == 20

"""The app of the tests' workers.

Where and how it works comes from the environment, see `tests.fleet`.
"""

import asyncio
import json
import os
import time
from pathlib import Path

from ardiq import Ardiq, current_task

app = Ardiq(queue_name=os.environ["ARDIQ_TEST_QUEUE"], **json.loads(os.environ["ARDIQ_TEST_OPTIONS"]))

_gate = Path(os.environ["ARDIQ_TEST_GATE"])
_journal = os.open(os.environ["ARDIQ_TEST_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(event: str) -> None:
    """Append to the journal that all processes share.

    One write is one line, even with many writers.
    """
    run = current_task()
    assert run is not None
    os.write(_journal, f"{event} {run.task_id} {run.tries} {os.getpid()}\n".encode())


@app.task
async def noop() -> None: ...


@app.task
async def echo(value: int) -> int:
    note("start")
    return value


@app.task
async def brief(value: int) -> int:
    """Run for a few milliseconds, so that a killed worker has running jobs."""
    note("start")
    await asyncio.sleep(0.005)
    return value


@app.task
async def add_up(values: list[int]) -> int:
    note("start")
    await asyncio.sleep(0.05)
    return sum(values)


@app.task
async def held() -> int:
    """Run until the gate is open. Returns the id of the process that ran it."""
    note("start")
    while not _gate.exists():  # noqa: ASYNC110, ASYNC240 - another process opens it
        await asyncio.sleep(0.01)
    note("end")
    return os.getpid()


@app.task
def held_in_thread() -> int:
    """The same in a thread: with fewer threads than slots, the other jobs are held but not
    started.
    """
    note("start")
    while not _gate.exists():
        time.sleep(0.05)
    note("end")
    return os.getpid()


@app.task
async def resume() -> list[int]:
    """Run until the gate is open. Returns the ids of all processes that have begun this job."""
    run = current_task()
    assert run is not None
    pids = [*run.last_checkpoint(list[int]()), os.getpid()]
    await run.checkpoint(pids)
    await run.progress(len(pids), message=f"process {os.getpid()}")
    note("start")
    while not _gate.exists():  # noqa: ASYNC110, ASYNC240 - another process opens it
        await asyncio.sleep(0.01)
    await run.checkpoint([*pids, 0])
    return pids


@app.task
async def nap(seconds: float) -> int:
    note("start")
    await asyncio.sleep(seconds)
    return os.getpid()


@app.task
async def compute(seconds: float) -> int:
    """Keep the event loop busy."""
    note("start")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    note("end")
    return os.getpid()


@app.task
async def die(after: float) -> None:
    """Kill the whole process."""
    note("start")
    await asyncio.sleep(after)
    os._exit(9)


@app.task
def fork_and_enqueue(value: int) -> str:
    """Enqueue from a forked child of the worker. Returns the id of its job."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, echo.enqueue_sync(value).id.encode())
        os._exit(0)
    os.close(writing)
    job_id = os.read(reading, 1000).decode()
    os.close(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return job_id

"""Waiting callers get the result, or an error at once if there is none.

Callers that give up leave nothing in Redis.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ardiq import Ardiq, ResultNotFoundError
from tests.programs import eventually
from tests.servers import Server

MANY = 700
AT_ONCE_S = 5.0
"""Far below the timeouts of the callers, and enough for a busy machine."""


class Gate:
    """A task that ends when the test opens the gate."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()

    async def pass_through(self, size: int = 1) -> bytes:
        self.begun.set()
        await self.open.wait()
        return bytes(size)


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture
async def app(server: Server, queue_name: str, gate: Gate) -> AsyncIterator[Ardiq]:
    app = Ardiq(server.url, queue_name, result_ttl_ms=0)
    app.task(name="passed")(gate.pass_through)
    running = asyncio.create_task(app.run())
    yield app
    gate.open.set()
    app.stop()
    async with asyncio.timeout(60):
        await running


def key(app: Ardiq, name: str) -> str:
    return f"ardiq:{{{app.queue_name}}}:{name}"


def waiters(server: Server, app: Ardiq) -> int:
    return int(server.cli("HLEN", key(app, "waiters")))


def calls(server: Server) -> int:
    return int(server.cli("INFO", "commandstats")["cmdstat_evalsha"]["calls"])


async def word_left(server: Server, app: Ardiq, jobs: int) -> None:
    async with asyncio.timeout(60):
        while waiters(server, app) < jobs:  # noqa: ASYNC110 - another process counts them
            await asyncio.sleep(0.01)


async def test_many_who_give_up_withdraw_what_they_left_with_few_calls(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name)
    task = app.ref("never")
    jobs = await app.enqueue_many(task.prepare(number) for number in range(MANY))
    before = calls(server)
    ended = await asyncio.gather(*(job.result(timeout=2) for job in jobs), return_exceptions=True)
    assert {type(end) for end in ended} == {TimeoutError}
    await asyncio.to_thread(eventually, lambda: waiters(server, app) == 0, "all have withdrawn")
    # Each caller has checked once.
    assert calls(server) - before <= MANY * 1.25


async def test_of_many_who_wait_for_one_job_the_last_withdraws(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name)
    job = await app.ref("never").enqueue()
    waits = [asyncio.create_task(job.result(timeout=60)) for _ in range(3)]
    await word_left(server, app, 1)
    for wait in waits[:2]:
        wait.cancel()
    with pytest.raises(TimeoutError):
        await job.result(timeout=0.1)
    assert waiters(server, app) == 1, "one is still waiting"
    waits[2].cancel()
    await asyncio.to_thread(eventually, lambda: waiters(server, app) == 0, "the last has withdrawn")


async def test_a_caller_that_comes_back_is_registered_again(app: Ardiq, gate: Gate, server: Server) -> None:
    job = await app.ref("passed").enqueue()
    for _ in range(20):
        wait = asyncio.create_task(job.result(timeout=60))
        await word_left(server, app, 1)
        wait.cancel()
        wait = asyncio.create_task(job.result(timeout=60))
        await asyncio.sleep(0)
        wait.cancel()
    wait = asyncio.create_task(job.result(timeout=60))
    await word_left(server, app, 1)
    gate.open.set()
    result = await wait
    assert result is not None
    assert result.success


ENDS: dict[str, str] = {
    "the wait is cancelled": "asyncio.run(cancelled())",
    "the process ends while it waits": "threading.Thread(target=waiting, daemon=True).start(); word_left()",
    "an exception ends the process": "threading.Thread(target=waiting, daemon=True).start(); word_left(); 1 / 0",
}

PROGRAM = """
import asyncio, sys, threading, time
from ardiq import Ardiq
import redis

url, queue, job, how = sys.argv[1:]
app = Ardiq(url, queue)

def word_left():
    while redis.Redis.from_url(url).hlen(f"ardiq:{{{queue}}}:waiters") == 0:
        time.sleep(0.01)
    print("waits", flush=True)

def waiting():
    app.result_sync(job, 600)

async def cancelled():
    wait = asyncio.create_task(app.result(job, 600))
    await asyncio.to_thread(word_left)
    wait.cancel()

exec(how)
"""


@pytest.mark.parametrize("how", list(ENDS.values()), ids=list(ENDS))
async def test_a_process_that_ends_withdraws_what_it_left(server: Server, queue_name: str, how: str) -> None:
    app = Ardiq(server.url, queue_name)
    job = await app.ref("never").enqueue()
    arguments = [sys.executable, "-c", PROGRAM, server.url, queue_name, job.id, how]
    done = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "waits\n", done.stderr
    assert waiters(server, app) == 0


async def test_unknown_jobs_are_not_waited_for_and_leave_nothing(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name)
    began = time.monotonic()
    ended: list[Any] = await asyncio.gather(
        *(app.result(f"made-up-{number}", timeout=600) for number in range(MANY)), return_exceptions=True
    )
    assert {type(end) for end in ended} == {ResultNotFoundError}
    assert "made-up-0" in str(ended[0])
    assert time.monotonic() - began < 30
    with pytest.raises(ResultNotFoundError):
        await asyncio.to_thread(app.result_sync, "made-up", timeout=600)
    assert await app.result("made-up") is None, "without a time to wait there is nothing to raise"
    assert not [name for name in server.client().scan_iter(key(app, "*"), count=1000) if b"lane" not in name]


async def test_a_result_that_was_not_stored_is_not_waited_for(app: Ardiq, gate: Gate, server: Server) -> None:
    job = await app.ref("passed").enqueue()
    wait = asyncio.create_task(job.result(timeout=60))
    await word_left(server, app, 1)
    gate.open.set()
    assert await wait is not None
    began = time.monotonic()
    with pytest.raises(ResultNotFoundError, match="not stored"):
        await job.result(timeout=600)
    assert time.monotonic() - began < AT_ONCE_S


@pytest.mark.parametrize("kept", [False, True])
async def test_a_missed_message_about_a_result_that_is_not_stored_ends_the_wait(
    app: Ardiq, gate: Gate, server: Server, kept: bool
) -> None:
    job = await app.ref("passed").enqueue()
    wait = asyncio.create_task(job.result(timeout=600))
    await word_left(server, app, 1)
    server.cli("DEL", key(app, "waiters"))
    gate.open.set()
    async with asyncio.timeout(60):
        while await job.status() != "not_found":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    began = time.monotonic()
    if kept:  # the caller is not told that it may have missed a message
        server.cli("DEL", key(app, f"job:{job.id}"))
    else:
        server.cli("CLIENT", "KILL", "TYPE", "PUBSUB")
    with pytest.raises(ResultNotFoundError):
        await wait
    assert time.monotonic() - began < 2 * AT_ONCE_S


@pytest.mark.parametrize("rubbish", [b"R", b"Rubbish that is no record", b"\x00", b"q12345678"])
async def test_a_message_that_cannot_be_read_does_not_end_the_wait(
    app: Ardiq, gate: Gate, server: Server, rubbish: bytes
) -> None:
    job = await app.ref("passed").enqueue()
    wait = asyncio.create_task(job.result(timeout=60))
    await word_left(server, app, 1)
    (channel,) = [
        name for name in server.cli("PUBSUB", "CHANNELS") if b":push:" in name and app.queue_name in str(name)
    ]
    identity = job.id.encode()
    for message in (len(identity).to_bytes(2) + identity + rubbish, b"", b"\xff", b"\xff\xffshort"):
        assert server.cli("PUBLISH", channel, message) == 1
    # Behind what was published, everything before it has come in.
    assert await job.status() in ("queued", "running")
    gate.open.set()
    result = await wait
    assert result is not None
    assert result.success


async def test_a_large_result_that_is_not_stored_reaches_its_callers(app: Ardiq, gate: Gate, server: Server) -> None:
    job = await app.ref("passed").enqueue(34_000_000)
    waits = [asyncio.create_task(job.result(timeout=120)) for _ in range(2)]
    await word_left(server, app, 1)
    gate.open.set()
    for result in await asyncio.gather(*waits):
        assert result is not None
        assert result.value == bytes(34_000_000)
    assert 0 < server.cli("PTTL", key(app, f"job:{job.id}")) <= 30_000

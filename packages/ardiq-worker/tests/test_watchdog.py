"""A blocked event loop: the log says so while it is blocked, and names the run."""

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest

from ardiq import Ardiq
from ardiq_worker import watchdog
from ardiq_worker.execute import Executor
from ardiq_worker.watchdog import Watchdog
from tests.bench import Bench
from tests.servers import Server


class Heard(logging.Handler):
    """Collects the log of the worker. `blocked` is set when it says that the loop is blocked."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.blocked = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if "has been blocked" in record.getMessage():
            self.blocked.set()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setattr(watchdog, "BLOCKED_S", 0.2)
    monkeypatch.setattr(watchdog, "LOOK_S", 0.01)
    handler = Heard()
    logger = logging.getLogger("ardiq.worker")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def watchdogs() -> int:
    return sum(thread.name == "ardiq-watchdog" for thread in threading.enumerate())


@pytest.fixture
async def watched(bench: Bench) -> AsyncIterator[Watchdog]:
    made = Watchdog(asyncio.get_running_loop(), lambda: bench.executor.running, Executor.RUN_CODE)
    yield made
    made.close()
    assert not watchdogs()


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("how", ["event", "sleep", "compute", "subprocess"])
async def test_it_names_the_run_and_the_place(
    bench: Bench, watched: Watchdog, heard: Heard, how: str, suspends: bool
) -> None:
    def inner() -> None:
        if how == "event":
            heard.blocked.wait(20)
        while how == "sleep" and not heard.blocked.is_set():
            time.sleep(0.1)
        while how == "compute" and not heard.blocked.is_set():
            sum(range(1000))
        if how == "subprocess":  # which has a selector of its own
            subprocess.run([sys.executable, "-c", "import time; time.sleep(1)"], capture_output=True, check=True)

    async def freeze() -> bool:
        if suspends:
            await asyncio.sleep(0)
        inner()
        return heard.blocked.is_set()

    watched.activity()
    assert bench.value(await bench.run(freeze, name="freeze")) is True
    async with asyncio.timeout(10):
        while not any("is responding again" in line for line in heard.lines):  # noqa: ASYNC110 - it comes from a thread
            await asyncio.sleep(0.01)
    said = next(line for line in heard.lines if "has been blocked for" in line)
    assert "by freeze[id-1] at " in said
    if how != "subprocess":
        assert "test_watchdog.py:" in said or "threading.py:" in said
        assert "inner" in said or "Event.wait" in said or "Condition.wait" in said


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("call_soon", "by calls[id-1] in the callback SimpleQueue.get;"),
        ("partial", "by calls[id-1] in the callback SimpleQueue.get;"),
        ("later", "by calls[id-1] in the callback SimpleQueue.get;"),
        ("done", "by calls[id-1] in the callback SimpleQueue.get;"),
        ("elsewhere", "by code outside of tasks, in the callback SimpleQueue.get;"),
    ],
)
async def test_it_names_a_function_in_c_that_the_loop_calls(
    bench: Bench, watched: Watchdog, heard: Heard, how: str, said: str
) -> None:
    # Its `get` blocks whatever it is called with.
    loop, queue = asyncio.get_running_loop(), SimpleQueue[None]()

    async def calls() -> None:
        if how == "call_soon":
            loop.call_soon(queue.get)
        elif how == "partial":
            loop.call_soon(partial(partial(queue.get), True))
        elif how == "later":
            loop.call_later(0, queue.get)
        elif how == "done":
            future: asyncio.Future[bool] = loop.create_future()
            future.set_result(True)
            future.add_done_callback(queue.get)  # type: ignore[arg-type]
        else:
            loop.call_soon(queue.get, context=Context())
        await asyncio.sleep(0.01)

    def free() -> None:
        heard.blocked.wait(20)
        queue.put(None)

    thread = threading.Thread(target=free)
    thread.start()
    watched.activity()
    bench.value(await bench.run(calls, name="calls"))
    thread.join()
    assert any(said in line for line in heard.lines), heard.lines


async def test_it_names_the_place_in_asyncio_that_calls_a_function_in_c(
    bench: Bench, watched: Watchdog, heard: Heard
) -> None:
    queue = SimpleQueue[None]()

    class Blocks(asyncio.Protocol):
        data_received = staticmethod(queue.get)  # type: ignore[assignment]

    async def receives() -> None:
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(Blocks, sock=ours)
        theirs.send(b"x")
        await asyncio.sleep(0.01)
        theirs.close()
        transport.close()

    def free() -> None:
        heard.blocked.wait(20)
        queue.put(None)

    thread = threading.Thread(target=free)
    thread.start()
    watched.activity()
    bench.value(await bench.run(receives, name="receives"))
    thread.join()
    assert any("by code outside of tasks, at " in line and "selector_events.py:" in line for line in heard.lines)


async def test_a_callback_that_cannot_be_described_is_reported_all_the_same(watched: Watchdog) -> None:
    class Odd:
        def __getattribute__(self, name: str) -> Any:
            raise KeyboardInterrupt

    assert watchdog._callback(Odd()) == "code outside of tasks, in the callback that has no name"


async def test_it_says_so_again_more_and_more_rarely(
    bench: Bench, watched: Watchdog, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "AGAIN_FACTOR", 2)

    async def freeze() -> None:
        while len(heard.lines) < 3:
            time.sleep(0.05)  # noqa: ASYNC251 - this is what is tried

    watched.activity()
    await bench.run(freeze, name="freeze")
    seconds = [float(line.partition("blocked for ")[2].partition(" s")[0]) for line in heard.lines[:3]]
    assert seconds[0] >= 0.2
    assert seconds[1] >= 0.4
    assert seconds[2] >= 0.8


async def test_a_loop_that_turns_is_not_blocked(bench: Bench, watched: Watchdog, heard: Heard) -> None:
    async def turns() -> None:
        until = time.monotonic() + 0.6
        while time.monotonic() < until:  # noqa: ASYNC110 - it is to take many turns
            await asyncio.sleep(0)

    watched.activity()
    await bench.run(turns, name="turns")
    assert not heard.lines


async def test_it_sleeps_while_nothing_runs_and_wakes_up_again(bench: Bench, watched: Watchdog, heard: Heard) -> None:
    async def freeze() -> None:
        heard.blocked.wait(20)

    bench.app.task(name="freeze")(freeze)
    for _ in range(2):
        async with asyncio.timeout(10):
            while watched._awake:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
        heard.blocked.clear()
        watched._quiet_until = 0
        watched.activity()
        bench.start("freeze")
        await bench.next()
        assert heard.blocked.is_set()


async def test_it_is_not_even_there_while_nothing_has_come_in(watched: Watchdog) -> None:
    assert not watchdogs()
    watched.close()


async def test_a_worker_has_one(server: Server, queue_name: str, heard: Heard) -> None:
    app = Ardiq(server.url, queue_name, burst=True)

    @app.task
    async def freeze() -> Any:
        return heard.blocked.wait(20)

    job = await freeze.enqueue()
    await app.run()
    found = await job.result()
    assert found is not None
    assert found.value is True
    assert any(f"by freeze[{job.id}] at " in line for line in heard.lines)
    assert not watchdogs()

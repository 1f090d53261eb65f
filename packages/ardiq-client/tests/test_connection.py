"""Loops, threads, forks and exits: one app works in all of them."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest

from ardiq import Ardiq, BrokerError


class Server(Protocol):
    """What a test needs to know of a server."""

    @property
    def url(self) -> str: ...
    @property
    def port(self) -> int: ...


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_making_an_app_does_no_io_and_starts_no_thread() -> None:
    gc.collect()
    threads, descriptors = threading.active_count(), open_descriptors()
    apps = [Ardiq("redis://127.0.0.1:1", f"q{n}") for n in range(100)]
    assert threading.active_count() <= threads
    assert open_descriptors() <= descriptors
    assert [app._connection._core for app in apps] == [None] * 100


def test_every_scheme_without_tls_reaches_its_server(
    server: Server, make_server: Callable[..., Server], queue_name: str
) -> None:
    path = make_server(unix_socket=True).url.removeprefix("unix://")
    tcp = [f"{scheme}://127.0.0.1:{server.port}" for scheme in ("redis", "valkey")]
    sockets = [f"{scheme}://{path}" for scheme in ("unix", "redis+unix", "valkey+unix")]
    for urls in (tcp, sockets):
        sizes: list[int] = []
        for url in urls:
            app = Ardiq(url, queue_name)
            app.ref("x").enqueue_sync()
            sizes.append(app.queue_size_sync())
        assert sizes == list(range(1, len(urls) + 1))


def test_a_database_of_a_url_is_one_of_its_own(server: Server, queue_name: str) -> None:
    first, second = (Ardiq(f"{server.url}/{number}", queue_name) for number in (0, 1))
    first.ref("x").enqueue_sync()
    assert (first.queue_size_sync(), second.queue_size_sync()) == (1, 0)


def test_one_app_serves_one_loop_after_another_and_keeps_none(app: Ardiq) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def use() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(app.send("x", n) for n in range(3)))

    asyncio.run(use())
    settled = open_descriptors()
    for _ in range(20):
        asyncio.run(use())
    gc.collect()
    assert open_descriptors() <= settled + 1
    assert [loop() for loop in loops] == [None] * 21
    assert app.queue_size_sync() == 63


def test_a_loop_that_is_closed_with_a_request_in_flight_is_released(app: Ardiq) -> None:
    job = app.ref("x").enqueue_sync()

    async def leave() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.get_running_loop()
        loop.create_task(app.result(job.id, timeout=3600))  # noqa: RUF006 - cancelled by asyncio.run
        await asyncio.sleep(0)
        return weakref.ref(loop)

    first = asyncio.run(leave())
    asyncio.run(leave())
    gc.collect()
    assert first() is None


def test_many_loops_and_threads_use_one_app_at_once(app: Ardiq) -> None:
    async def from_loop(thread: int) -> int:
        jobs = []
        for _ in range(5):
            jobs += await asyncio.gather(*(app.send("x", thread, n) for n in range(20)))
        return len({job.id for job in jobs})

    def from_thread(thread: int) -> int:
        return len({app.ref("x").enqueue_sync(thread, n).id for n in range(100)})

    def use(thread: int) -> int:
        return from_thread(thread) if thread % 2 else asyncio.run(from_loop(thread))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(8))) == [100] * 8
    assert app.queue_size_sync() == 800


def test_threads_that_end_leave_nothing_behind(app: Ardiq) -> None:
    app.queue_size_sync()
    before = open_descriptors()
    for _ in range(20):
        thread = threading.Thread(target=app.queue_size_sync)
        thread.start()
        thread.join()
    gc.collect()
    assert open_descriptors() <= before + 1


def test_an_app_that_is_dropped_ends_its_connection(server: Server, queue_name: str) -> None:
    async def use() -> Any:
        app = Ardiq(server.url, queue_name)
        await app.send("x")
        core = app._connection.core()
        assert app._connection._bridge is not None
        bridge = weakref.ref(app._connection._bridge)
        await asyncio.sleep(0)  # the step that the answer woke still refers to it
        del app
        gc.collect()
        assert core.closed
        await asyncio.sleep(0)  # the loop stops watching in its next turn
        await asyncio.sleep(0)
        gc.collect()
        return bridge()

    assert asyncio.run(use()) is None


def test_no_call_hangs_or_comes_back_to_life_after_the_end(app: Ardiq) -> None:
    job = app.ref("x").enqueue_sync()
    started = threading.Event()

    def wait() -> None:
        started.set()
        with pytest.raises(BrokerError):
            app.result_sync(job.id, timeout=3600)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        started.wait()
        app._connection.close()
        waiting.result(timeout=30)
    with pytest.raises(BrokerError, match="closed"):
        app.queue_size_sync()
    with pytest.raises(BrokerError, match="closed"):
        asyncio.run(app.queue_size())


async def test_waiting_callers_get_an_error_when_the_connection_ends(app: Ardiq) -> None:
    job = await app.ref("x").enqueue()
    waiting = asyncio.create_task(job.result(timeout=3600))
    await app.queue_size()
    app._connection.close()
    with pytest.raises(BrokerError):
        await asyncio.wait_for(waiting, 30)


async def test_a_wait_that_is_given_up_is_forgotten(app: Ardiq) -> None:
    job = await app.ref("x").enqueue()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(job.result(timeout=3600), 0.01)
    bridge = app._connection._bridge
    assert bridge is not None
    assert bridge._waiting == {}
    assert await app.queue_size() == 1


class NoReaders(asyncio.SelectorEventLoop):
    """A loop that cannot watch descriptors, like the default one on Windows."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        # The base class uses its private form for its own pipe.
        raise NotImplementedError


async def test_an_answer_that_cannot_be_used_fails_its_own_caller_only(
    app: Ardiq, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = app._connection._bridge_of(asyncio.get_running_loop())
    mailbox, bad = bridge._mailbox, list[tuple[int, list[str]]]()

    class Mailbox:
        def enqueue(self, request_id: int, _jobs: list[Any]) -> None:
            bad.append((request_id, []))  # an id is missing

        def drain(self) -> list[Any]:
            return [*bad, *mailbox.drain()]

        def __getattr__(self, name: str) -> Any:
            return getattr(mailbox, name)

    monkeypatch.setattr(bridge, "_mailbox", Mailbox())
    async with asyncio.timeout(30):
        job, size = await asyncio.gather(app.ref("t").enqueue(), app.queue_size(), return_exceptions=True)
    assert isinstance(job, ValueError)
    assert size == 0


def test_a_loop_that_cannot_watch_descriptors_is_served_by_a_thread(app: Ardiq) -> None:
    async def use() -> int:
        jobs = []
        for _ in range(20):
            jobs += await asyncio.gather(*(app.send("x", n) for n in range(10)))
        return len({job.id for job in jobs})

    for _ in range(2):
        with asyncio.Runner(loop_factory=NoReaders) as runner:
            assert runner.run(use()) == 200
    deadline = time.monotonic() + 30
    while any(thread.name == "ardiq-wakeup" for thread in threading.enumerate()):
        next(thread for thread in threading.enumerate() if thread.name == "ardiq-wakeup").join(1)
        assert time.monotonic() < deadline


def test_a_signal_ends_a_blocking_wait(app: Ardiq) -> None:
    job = app.ref("x").enqueue_sync()

    class Enough(Exception):
        pass

    def handler(*_: object) -> None:
        # A separate request, in the middle of another one.
        assert app.queue_size_sync() == 1
        raise Enough

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Enough):
            app.result_sync(job.id, timeout=3600)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert app.queue_size_sync() == 1


def test_an_interrupting_request_does_not_take_the_answer_of_the_interrupted(app: Ardiq) -> None:
    job = app.ref("x").enqueue_sync()
    sizes: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: sizes.append(app.queue_size_sync()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TimeoutError):
            app.result_sync(job.id, timeout=0.3)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert sizes == [1]


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


FORK = """
import asyncio, os, sys, threading
from ardiq import Ardiq
app = Ardiq(sys.argv[1], sys.argv[2])
app.ref("x").enqueue_sync(0)
other = threading.Thread(target=app.queue_size_sync); other.start(); other.join()
kept = threading.Thread(target=lambda: (app.queue_size_sync(), ready.set(), done.wait()))
ready, done = threading.Event(), threading.Event()
kept.start(); ready.wait()
asyncio.run(app.send("x", 1))
children = []
for n in range(3):
    pid = os.fork()
    if not pid:
        app.ref("x").enqueue_sync(2)
        asyncio.run(app.send("x", 3))
        assert app.queue_size_sync() >= 4
        sys.exit(7)
    children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [7] * 3
done.set(); kept.join()
asyncio.run(app.send("x", 4))
print(app.queue_size_sync())
"""


def test_a_forked_child_has_a_connection_of_its_own(server: Server, queue_name: str) -> None:
    run = run_python(FORK, server.url, queue_name)
    assert (run.stdout, run.returncode) == ("9\n", 0), run.stderr


EXIT = """
import asyncio, sys, threading
from ardiq import Ardiq
app = Ardiq(sys.argv[1], sys.argv[2])
job = app.ref("x").enqueue_sync()
async def use():
    await asyncio.gather(*(app.send("x", n) for n in range(100)))
    asyncio.get_running_loop().create_task(job.result(3600))
    asyncio.get_running_loop().call_soon(app._connection.enqueue, app, app.ref("x").prepare()._submission)
    await asyncio.sleep(0)
threading.Thread(target=lambda: job.result_sync(3600), daemon=True).start()
asyncio.run(use())
"""


def test_the_interpreter_exits_with_requests_in_flight(server: Server, queue_name: str) -> None:
    for _ in range(3):
        started = time.monotonic()
        run = run_python(EXIT, server.url, queue_name)
        assert (run.returncode, run.stdout) == (0, ""), run.stderr
        assert time.monotonic() - started < 10

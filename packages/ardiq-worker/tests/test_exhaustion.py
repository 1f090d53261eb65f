"""A process runs out of threads, memory or descriptors: no job fails because of it, and the worker
stops.
"""

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator

import pytest

from ardiq import Ardiq, TaskStatus, WorkerExhaustedError
from ardiq.errors import SerializationError
from ardiq_core import FAILURE, HAND_BACK, RETRY, SUCCESS
from ardiq_worker.exhaustion import NoThreadError, is_exhaustion, most_abandoned
from tests.bench import Bench
from tests.servers import Server

TOO_LARGE = 1 << 46
"""A stack size, in bytes, that no machine can give to a thread."""


@pytest.fixture
def no_threads() -> Iterator[Callable[[], object]]:
    """A function after which the system refuses every new thread."""
    before = threading.stack_size()
    yield lambda: threading.stack_size(TOO_LARGE)
    threading.stack_size(before)


@pytest.fixture
def reasons(bench: Bench) -> list[str]:
    found: list[str] = []
    bench.threads.exhausted = found.append
    return found


async def test_jobs_for_which_no_thread_can_be_started_are_returned(
    bench: Bench, reasons: list[str], no_threads: Callable[[], object]
) -> None:
    bench.app.task(name="work", max_retries=0, timeout=30)(lambda: None)
    no_threads()
    for _ in range(200):
        bench.start("work")
    assert [(await bench.next()).kind for _ in range(200)] == [HAND_BACK] * 200
    assert "no thread can be started for tasks (can't start new thread)" in reasons[0]
    assert bench.executor.running == 0


async def test_the_threads_that_there_are_serve_the_line(
    bench: Bench, reasons: list[str], no_threads: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[threading.Thread] = []
    first, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        begun.append(threading.current_thread())
        loop.call_soon_threadsafe(first.set)
        release.wait(10)

    bench.app.task(name="work", max_retries=0, timeout=30)(work)
    bench.start("work")
    await first.wait()
    no_threads()
    for _ in range(20):
        bench.start("work")
    release.set()
    assert [(await bench.next()).kind for _ in range(21)] == [SUCCESS] * 21
    assert len(set(begun)) == 1
    assert not reasons
    assert sum("no more threads can be started" in record.message for record in caplog.records) == 1


async def test_a_thread_that_was_refused_is_tried_again_while_calls_wait(
    bench: Bench, reasons: list[str], no_threads: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ardiq_worker.threads.START_AGAIN_S", 0.05)
    first, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(first.set)
        release.wait(10)

    bench.app.task(name="hold")(hold)
    bench.app.task(name="work")(lambda: None)
    bench.start("hold")
    await first.wait()
    before = threading.stack_size()
    no_threads()
    waiting = {bench.start("work") for _ in range(3)}
    threading.stack_size(before)
    threading.stack_size(0)
    assert {(await bench.next()).slot for _ in range(3)} == waiting, "they waited for the thread that there was"
    release.set()
    assert (await bench.next()).kind == SUCCESS
    assert not reasons


async def test_those_in_the_line_go_back_when_the_last_thread_is_abandoned(
    bench: Bench, reasons: list[str], no_threads: Callable[[], object]
) -> None:
    begun, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang() -> None:
        loop.call_soon_threadsafe(begun.set)
        release.wait(10)

    bench.app.task(name="hang", max_retries=0, timeout=0.1)(hang)
    bench.app.task(name="work", max_retries=0)(lambda: None)
    hung = bench.start("hang")
    await begun.wait()
    no_threads()
    for _ in range(10):
        bench.start("work")
    outcomes = [await bench.next() for _ in range(11)]
    release.set()
    assert {(slot == hung, kind) for slot, kind, *_ in outcomes} == {(True, FAILURE), (False, HAND_BACK)}
    assert len(reasons) == 1


async def test_abandoned_threads_are_limited(bench: Bench, reasons: list[str]) -> None:
    release = threading.Event()
    bench.app.task(name="hang", max_retries=0, timeout=0.001)(lambda: release.wait(30))
    limit = most_abandoned(4)
    while not reasons:  # a call that is abandoned before it has reached its thread leaves none behind
        assert bench.threads.abandoned < limit
        bench.start("hang")
        assert (await bench.next()).kind == FAILURE
    assert bench.threads.abandoned == limit
    release.set()
    assert [f"{limit} threads, the most allowed," in reason for reason in reasons] == [True]


@pytest.mark.parametrize(("size", "limit"), [(1, 16), (4, 16), (5, 20), (16, 64), (1000, 4000)])
def test_the_limit_on_abandoned_threads(size: int, limit: int) -> None:
    assert most_abandoned(size) == limit


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(errno.EMFILE, "too many open files"), True),
        (OSError(errno.ENFILE, "file table overflow"), True),
        (OSError(errno.ENOMEM, "no memory"), True),
        (RuntimeError("can't start new thread"), True),
        (NoThreadError(), True),
        (caused(SerializationError("undecodable"), MemoryError()), True),
        (caused(SerializationError("undecodable"), caused(ValueError(), MemoryError())), True),
        (caused(SerializationError("undecodable"), ValueError()), False),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
        (RuntimeError("something else"), False),
        (ValueError(), False),
        (None, False),
    ],
    ids=repr,
)
def test_what_is_the_trouble_of_the_process(error: Exception | None, expected: bool) -> None:
    assert is_exhaustion(error) is expected


def test_a_chain_of_causes_that_is_a_ring_ends() -> None:
    error = ValueError()
    error.__cause__ = error
    assert is_exhaustion(error) is False


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "e"), RuntimeError("can't start new thread")])
async def test_a_job_whose_arguments_the_process_cannot_hold_is_returned(error: Exception) -> None:
    def deserializer(_data: bytes) -> object:
        raise error

    app = Ardiq("redis://localhost:1", serializer=lambda _: b"", deserializer=deserializer)
    bench = Bench(app=app)
    reasons: list[str] = []
    bench.threads.exhausted = reasons.append

    @app.task(max_retries=0)
    async def work() -> None: ...

    bench.start("work", body=b"")
    assert (await bench.next()).kind == HAND_BACK
    assert len(reasons) == 1


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "e"), RuntimeError("can't start new thread")])
async def test_what_a_task_raises_is_its_own(bench: Bench, reasons: list[str], error: Exception, sync: bool) -> None:
    def fail_in_thread() -> None:
        raise error

    async def fail() -> None:
        raise error

    fn = fail_in_thread if sync else fail
    assert (await bench.run(fn, name="again")).kind == RETRY
    assert (await bench.run(fn, name="fails", max_retries=0)).kind == FAILURE
    assert not reasons


async def test_the_worker_stops_in_order_and_raises(
    server: Server, queue_name: str, no_threads: Callable[[], object]
) -> None:
    app = Ardiq(server.url, queue_name, concurrency=4)
    started, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def long() -> str:
        started.set()
        await release.wait()
        return "finished"

    @app.task(max_retries=0)
    def work() -> str:
        return "worked"

    worker = asyncio.create_task(app.run())
    running = await long.enqueue()
    await started.wait()
    no_threads()
    jobs = await app.enqueue_many([work.prepare() for _ in range(20)])
    async with asyncio.timeout(20):
        while app._running.runner is not None and app._running.runner._phase.name == "RUNNING":  # type: ignore[attr-defined]  # noqa: ASYNC110 - there is no event for its stop
            await asyncio.sleep(0.01)
        release.set()
        with pytest.raises(WorkerExhaustedError, match="no thread can be started"):
            await worker
    found = await running.result(timeout=10)
    assert found is not None
    assert found.value == "finished"
    for job in jobs:
        info = await job.info()
        assert info is not None
        assert (info.status, info.tries) == (TaskStatus.QUEUED, 0)

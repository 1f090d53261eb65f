"""Tasks report progress and save checkpoints."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from ardiq import (
    Ardiq,
    BrokerUnreachableError,
    PayloadTooLargeError,
    Retry,
    SerializationError,
    StaleRunError,
    TaskContext,
    TaskStatus,
)
from tests.leftovers import leftovers
from tests.noting import Gate, here, stored, value, working
from tests.servers import Server

MakeServer = Callable[..., Server]


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name, concurrency=4)


async def test_a_caller_sees_the_last_progress(app: Ardiq, server: Server) -> None:
    gate = Gate()

    @app.task
    async def work() -> None:
        await gate.wait()
        await here().progress(1)
        await here().progress(2, 10, "reading")
        await gate.wait()
        await here().progress(10, 10)

    async with working(app):
        job = await work.enqueue()
        await gate.arrival()
        assert await job.progress() is None
        gate.open()
        await gate.arrival()
        progress = await stored(job, 2)
        assert progress[:3] == (2, 10, "reading")
        assert progress.updated > 1_600_000_000_000
        assert await asyncio.to_thread(job.progress_sync) == progress
        gate.open()
        await value(job)
        assert await job.progress() is None, "it is dropped with the job's end"
    assert leftovers(server, app.queue_name) == []


async def test_threads_report_too(app: Ardiq, server: Server) -> None:
    gate = Gate()

    @app.task(max_retries=1)
    def work() -> Any:
        context = here()
        context.progress_sync(3, message="in a thread")
        seen = context.last_checkpoint("nothing")
        context.checkpoint_sync({"row": context.tries})
        gate.block()
        if context.tries == 1:
            raise Retry(delay_ms=0)
        return [seen, context.last_checkpoint()]

    @app.task
    async def beside() -> None:
        await asyncio.to_thread(here().progress_sync, 7)
        await asyncio.to_thread(here().checkpoint_sync, 8)
        assert here().last_checkpoint() == 8
        await gate.wait()

    async with working(app):
        job, other = await work.enqueue(), await beside.enqueue()
        await gate.arrival()
        await gate.arrival()
        assert (await stored(job, 3)).message == "in a thread"
        await stored(other, 7)
        gate.open()
        gate.open()
        await gate.arrival()
        gate.open()
        assert await value(job) == [{"row": 1}, {"row": 2}]
        await value(other)
    assert leftovers(server, app.queue_name) == []


async def test_a_checkpoint_survives_retries_and_a_stop(app: Ardiq, server: Server) -> None:
    gate = Gate()
    seen: list[Any] = []

    async def work(value: Any) -> Any:
        context = here()
        seen.append((context.tries, context.last_checkpoint(value)))
        if context.tries == 1:
            await context.checkpoint(None)
            raise ValueError
        await context.checkpoint(Decimal("1.5"))
        if len(seen) == 2:
            await gate.wait()
        return context.last_checkpoint()

    app.task(max_retries=3, backoff_ms=1)(work)
    other = Ardiq(app.redis_url, app.queue_name)
    other.task(max_retries=3)(work)
    async with working(app):
        job = await app.ref("work").enqueue("default")
        await gate.arrival()
    gate.open()
    assert await job.status() is TaskStatus.QUEUED
    async with working(other):
        assert await value(job) == Decimal("1.5")
    assert seen == [(1, "default"), (2, None), (2, Decimal("1.5"))], "None is a value like others"
    assert leftovers(server, app.queue_name) == []


async def test_a_new_job_with_the_same_id_begins_without_a_checkpoint(app: Ardiq) -> None:
    @app.task
    async def work() -> Any:
        seen = here().last_checkpoint("nothing")
        await here().checkpoint("something")
        return seen

    async with working(app):
        for _ in range(2):
            assert await value(await work.options(task_id="mine").enqueue()) == "nothing"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((1.5,), TypeError, "done must be an int, not float"),
        ((True,), TypeError, "done must be an int, not bool"),
        ((-1,), ValueError, "done must be at least 0, not -1"),
        ((2**63,), ValueError, "done must be at most"),
        ((1, "many"), TypeError, "total must be an int, not str"),
        ((1, -5), ValueError, "total must be at least 0"),
        ((1, 2, 3), TypeError, "message must be a str, not int"),
        ((1, 2, "x" * 1025), ValueError, "message has 1025 bytes, more than the 1024 allowed; shorten it"),
        ((1, 2, "\ud800"), ValueError, "lone surrogates"),
    ],
)
async def test_arguments_that_cannot_be_reported_are_errors_at_once(
    arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    context = TaskContext("id", "work", 1, "queue", {}, 0)
    with pytest.raises(error, match=text):
        await context.progress(*arguments)
    with pytest.raises(error, match=text):
        context.progress_sync(*arguments)


async def test_a_context_without_a_worker_keeps_the_checkpoint() -> None:
    context = TaskContext("id", "work", 1, "queue", {}, 0)
    assert context.last_checkpoint() is None
    assert context.last_checkpoint(3) == 3
    await context.progress(1, 2, "three")
    await context.checkpoint([1])
    assert context.last_checkpoint() == [1]
    context.checkpoint_sync(None)
    assert context.last_checkpoint(3) is None


async def test_a_value_that_cannot_be_stored_is_an_error_and_the_last_one_stays(
    server: Server, queue_name: str
) -> None:
    app = Ardiq(server.url, queue_name, max_payload_bytes=1000)

    @app.task
    async def work() -> Any:
        context = here()
        await context.checkpoint("kept")
        with pytest.raises(PayloadTooLargeError, match=r"takes 1003 bytes, more than max_payload_bytes \(1000\)"):
            await context.checkpoint("x" * 1000)
        with pytest.raises(SerializationError, match="object"):
            await context.checkpoint(object())
        return context.last_checkpoint()

    async with working(app):
        assert await value(await work.enqueue()) == "kept"


async def test_the_serializer_of_the_app_writes_checkpoints(server: Server, queue_name: str) -> None:
    app = Ardiq(
        server.url,
        queue_name,
        serializer=lambda value: repr(value).encode(),
        deserializer=lambda data: eval(data),
    )

    @app.task(max_retries=1, backoff_ms=1)
    async def work() -> Any:
        if here().tries == 1:
            await here().checkpoint({1, 2})
            raise ValueError
        return here().last_checkpoint()

    async with working(app):
        job = await work.enqueue()
        assert await value(job) == {1, 2}


async def test_progress_never_raises_and_a_checkpoint_says_that_redis_is_away(
    make_server: MakeServer, queue_name: str
) -> None:
    server = make_server(append_only=True)
    app = Ardiq(server.url, queue_name, connect_timeout_s=3)
    gate = Gate()
    errors: list[type[BaseException]] = []

    @app.task
    async def work() -> str:
        context = here()
        await context.checkpoint("first")
        await gate.wait()
        for number in range(100):
            await context.progress(number)
        try:
            await context.checkpoint("second")
        except BrokerUnreachableError as error:
            errors.append(type(error))
        await gate.wait()
        await context.checkpoint("third")
        return str(context.last_checkpoint())

    async with working(app):
        job = await work.enqueue()
        await gate.arrival()
        server.stop()
        gate.open()
        await gate.arrival()
        assert errors == [BrokerUnreachableError]
        server.start()
        gate.open()
        assert await value(job) == "third"


async def test_a_server_that_refuses_progress_ends_no_task(make_server: MakeServer, queue_name: str) -> None:
    server = make_server()
    app = Ardiq(server.url, queue_name)

    @app.task
    async def work() -> int:
        server.cli("CONFIG", "SET", "maxmemory", "1")
        for number in range(10):
            await here().progress(number)
        with pytest.raises(RuntimeError, match="maxmemory"):
            await here().checkpoint(1)
        server.cli("CONFIG", "SET", "maxmemory", "0")
        await here().checkpoint(2)
        return int(here().last_checkpoint())

    async with working(app):
        assert await value(await work.enqueue()) == 2


async def test_a_hundred_thousand_reports_are_cheap(make_server: MakeServer, queue_name: str) -> None:
    server = make_server()
    app = Ardiq(server.url, queue_name)
    gate = Gate()

    @app.task
    async def work() -> None:
        for number in range(100_000):
            await here().progress(number, 100_000)
        await gate.wait()

    def written() -> int:
        statistics = server.cli("INFO", "commandstats")
        return sum(int(statistics.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("hset", "publish"))

    async with working(app):
        before = written()
        loop = asyncio.get_running_loop()
        began = loop.time()
        job = await work.enqueue()
        await gate.arrival()
        await stored(job, 99_999)
        # In addition, the start of the run is recorded, and the worker describes itself.
        assert written() - before <= 10 * (loop.time() - began) + 5
        gate.open()
        await value(job)


async def test_code_that_outlives_its_run_cannot_touch_the_next_one(app: Ardiq, server: Server) -> None:
    gate = Gate()
    loop = asyncio.get_running_loop()
    ends: asyncio.Queue[tuple[object, object]] = asyncio.Queue()

    def attempt(call: Callable[[], object]) -> object:
        try:
            return call()
        except StaleRunError as error:
            return error

    @app.task(timeout=0.1, max_retries=0)
    def slow() -> None:
        context = here()
        gate.block()
        context.progress_sync(666)
        found = attempt(lambda: context.checkpoint_sync("stale")), attempt(context.last_checkpoint)
        loop.call_soon_threadsafe(ends.put_nowait, found)

    @app.task
    async def next_one() -> Any:
        await here().progress(1)
        await gate.wait()
        return here().last_checkpoint("none")

    async with working(app, concurrency=1):
        job = await slow.enqueue()
        await gate.arrival()
        assert (await job.result(timeout=10)).value == "timed out after 0.1s"
        later = await next_one.enqueue()
        await gate.arrival()
        gate.open()
        gate.open()
        found = await ends.get()
        assert [type(one) for one in found] == [StaleRunError, StaleRunError]
        assert "another worker has taken the job over" in str(found[0])
        assert await value(later) == "none"
    assert leftovers(server, app.queue_name) == []


async def test_an_asyncio_task_that_outlives_its_run_cannot_report(app: Ardiq) -> None:
    left: list[asyncio.Task[None]] = []
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        await here().progress(1)
        await here().checkpoint("late")

    @app.task
    async def work() -> None:
        left.append(asyncio.create_task(late()))

    async with working(app):
        await value(await work.enqueue())
        go.set()
        with pytest.raises(StaleRunError):
            await left[0]

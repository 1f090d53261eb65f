"""Slow, distant and forgetful connections to Redis: a slow one is not taken for broken, and a
broken one is found soon.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ardiq import Ardiq, BrokerUnreachableError, Job, TaskResult
from tests.line import Line
from tests.servers import Server

MakeServer = Callable[[], Server]


def sized(url: str, queue_name: str, **options: Any) -> Ardiq:
    app = Ardiq(url, queue_name, **options)

    @app.task
    async def size(value: bytes) -> int:
        return len(value)

    @app.task
    async def make(length: int) -> bytes:
        return b"x" * length

    return app


async def ended(job: Job[Any]) -> TaskResult[Any]:
    result = await job.result(timeout=60)
    assert result is not None
    return result


async def moving(line: Line, length: int) -> None:
    """Wait until so many bytes have gone to the server."""
    async with asyncio.timeout(60):
        while line.sent < length:  # noqa: ASYNC110 - the line has no event to wait for
            await asyncio.sleep(0.01)


@asynccontextmanager
async def working(app: Ardiq) -> AsyncIterator[None]:
    run = asyncio.create_task(app.run())
    try:
        yield
    finally:
        app.stop()
        await run


async def test_a_large_argument_over_a_slow_line_is_accepted_and_small_jobs_pass_it(
    server: Server, queue_name: str
) -> None:
    async with Line(server, rate=200_000) as line:
        app = sized(line.url, queue_name, connect_timeout_s=40, max_payload_bytes=2_000_000)
        size = app.ref("size")
        large = asyncio.ensure_future(size.enqueue(b"x" * 1_600_000))
        await asyncio.sleep(1)  # by now the line is full
        small = 0
        while not large.done():
            began = time.monotonic()
            await size.enqueue(b"x")
            assert time.monotonic() - began < 4, "a small job waited for the large one"
            small += 1
        await large
        assert small > 1
        assert await app.queue_size() == small + 1


UPLOADS = {
    "one large argument": (1, 400_000),
    "many large arguments": (8, 50_000),
    "many small arguments": (1000, 400),
}


@pytest.mark.parametrize(("count", "length"), UPLOADS.values(), ids=UPLOADS)
async def test_an_upload_may_take_longer_than_the_patience_of_its_caller(
    server: Server, queue_name: str, count: int, length: int
) -> None:
    async with Line(server, rate=200_000) as line:
        app = sized(line.url, queue_name, connect_timeout_s=1)
        size = app.ref("size")
        await size.enqueue(b"x")  # connected
        began = time.monotonic()
        await asyncio.gather(*(size.enqueue(b"x" * length) for _ in range(count)))
        assert time.monotonic() - began > 1.5, "or the line was too fast for this test"
        jobs = await app.enqueue_many(size.prepare(b"x" * length) for _ in range(count))
    assert len({job.id for job in jobs}) == count
    assert await sized(server.url, queue_name).queue_size() == 1 + 2 * count


async def test_an_upload_to_a_server_that_does_not_answer_fails(make_server: MakeServer, queue_name: str) -> None:
    server = make_server()
    async with Line(server, rate=200_000) as line:
        app = sized(line.url, queue_name, connect_timeout_s=1, max_payload_bytes=8_000_000)
        upload = asyncio.ensure_future(app.ref("size").enqueue(b"x" * 4_000_000))
        await moving(line, 100_000)
        server.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(BrokerUnreachableError):
                await upload
            assert time.monotonic() - began < 10, "although the transfer could take another 20 s"
        finally:
            server.thaw()


async def test_large_jobs_take_as_long_as_their_transfer(server: Server, queue_name: str) -> None:
    jobs, length, rate = 24, 1_000_000, 2_000_000
    for _ in range(jobs):
        await sized(server.url, queue_name).ref("size").enqueue(b"x" * length)
    async with Line(server, rate=rate) as line:
        app = sized(line.url, queue_name, concurrency=jobs, burst=True)
        began = time.monotonic()
        async with asyncio.timeout(60):
            await app.run()
        took_s = time.monotonic() - began
        assert await app.queue_size() == 0
    assert line.moved < 1.2 * jobs * length, "what has arrived is not asked for again"
    # Calls, subscriptions, the blocking read and large values. A machine that stalls for half a
    # second makes the worker check its connections, with two new ones each time.
    assert line.connections <= 4 + 2 * 2
    assert took_s < 2 * jobs * length / rate


async def test_a_large_result_over_a_slow_line_is_recorded(server: Server, queue_name: str) -> None:
    async with Line(server, rate=200_000) as line:
        app = sized(line.url, queue_name)
        job = await app.ref("make").enqueue(1_600_000)
        async with working(app):
            result = await sized(server.url, queue_name).result(job.id, 30)
    assert result is not None
    assert (len(result.value), result.tries) == (1_600_000, 1)
    # On a busy machine, the main connection may be replaced. That does not restart the transfer.
    assert line.connections <= 5


async def test_small_jobs_pass_a_large_result_that_is_on_its_way(server: Server, queue_name: str) -> None:
    caller = sized(server.url, queue_name)
    async with Line(server, rate=200_000) as line:
        app = sized(line.url, queue_name, concurrency=2)
        async with working(app):
            large = await caller.ref("make").enqueue(1_600_000)
            await moving(line, 300_000)
            for _ in range(5):
                job = await caller.ref("size").enqueue(b"x")
                assert (await ended(job)).value == 1
            many = await caller.enqueue_many([caller.ref("size").prepare(b"x" * 200) for _ in range(300)])
            assert {(await ended(job)).value for job in many} == {200}
            assert await large.result() is None, "they waited for the large one"
            assert (await ended(large)).tries == 1


async def test_small_jobs_pass_large_arguments_that_are_on_their_way(server: Server, queue_name: str) -> None:
    caller = sized(server.url, queue_name, max_payload_bytes=2_000_000)
    async with Line(server, rate=200_000) as line:
        app = sized(line.url, queue_name, concurrency=4)
        large = [await caller.ref("size").enqueue(b"x" * 800_000) for _ in range(2)]
        small = [await caller.ref("size").enqueue(b"x") for _ in range(5)]
        async with working(app):
            assert [(await ended(job)).value for job in small] == [1] * 5
            for length in (1, 5_000):
                assert (await ended(await caller.ref("size").enqueue(b"x" * length))).value == length
            assert [await job.result() for job in large] == [None, None], "the small ones waited for them"
            assert [(await ended(job)).tries for job in large] == [1, 1]


async def test_small_calls_pass_a_large_result_that_is_read(server: Server, queue_name: str) -> None:
    near = sized(server.url, queue_name)
    async with working(near):
        job = await near.ref("make").enqueue(1_600_000)
        assert (await ended(job)).success
    async with Line(server, rate=200_000) as line:
        far = sized(line.url, queue_name)
        await far.queue_size()
        moved = line.moved
        for look in (far.result(job.id, 60), far.result(job.id)):
            reading = asyncio.ensure_future(look)
            async with asyncio.timeout(60):
                while line.moved < moved + 100_000:  # noqa: ASYNC110 - the line has no event to wait for
                    await asyncio.sleep(0.01)
            small = 0
            while not reading.done():
                began = time.monotonic()
                await far.ref("size").enqueue(b"x")
                assert time.monotonic() - began < 4, "a small call waited for the large result"
                small += 1
            result, moved = await reading, line.moved
            assert result is not None
            assert (len(result.value or b""), small > 3) == (1_600_000, True)


async def test_a_stop_waits_for_a_large_result_that_is_on_its_way(server: Server, queue_name: str) -> None:
    async with Line(server, rate=200_000) as line:
        app = sized(line.url, queue_name, connect_timeout_s=2)
        job = await app.ref("make").enqueue(1_600_000)
        async with working(app):
            await moving(line, 300_000)
        result = await sized(server.url, queue_name).result(job.id)
    assert result is not None
    assert result.tries == 1


async def test_a_connection_that_was_forgotten_on_the_way_costs_no_call(server: Server, queue_name: str) -> None:
    async with Line(server, forgets_after_s=0.5) as line:
        app = sized(line.url, queue_name)
        size = app.ref("size")
        for length in (1, 1, 100_000, 100_000):
            began = time.monotonic()
            await size.enqueue(b"x" * length)
            assert time.monotonic() - began < 4
            await asyncio.sleep(0.7)  # the quiet time
        assert await app.queue_size() == 4


async def test_a_worker_and_callers_go_on_when_their_connections_were_forgotten(
    server: Server, queue_name: str
) -> None:
    async with Line(server, forgets_after_s=3) as line:
        app = sized(line.url, queue_name)
        async with working(app):
            for _ in range(2):
                job = await app.ref("size").enqueue(b"x")
                result = await job.result(timeout=10)
                assert result is not None
                assert result.value == 1
                await asyncio.sleep(3.5)


@pytest.mark.parametrize("round_trip_s", [0.7, pytest.param(2.0, marks=pytest.mark.slow)])
async def test_a_worker_starts_far_from_its_server(server: Server, queue_name: str, round_trip_s: float) -> None:
    near = sized(server.url, queue_name)
    job = await near.ref("size").enqueue(b"x")
    async with Line(server, delay_s=round_trip_s / 2) as line, working(sized(line.url, queue_name)):
        result = await near.result(job.id, 20 * round_trip_s)
    assert result is not None
    assert (result.value, result.tries) == (1, 1)


async def test_a_producer_far_from_its_server_connects_within_the_default_limit(
    server: Server, queue_name: str
) -> None:
    async with Line(server, delay_s=0.5) as line:
        assert (await sized(line.url, queue_name).ref("size").enqueue(b"x")).id


async def test_an_outage_is_logged_soon_and_rarely_and_so_is_its_end(
    make_server: Any, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ardiq")
    server = make_server(append_only=True)

    def lines(text: str) -> int:
        return sum(text in record.getMessage() for record in caplog.records)

    async def until(text: str) -> None:
        async with asyncio.timeout(15):
            while not lines(text):  # noqa: ASYNC110 - the log has no event to wait for
                await asyncio.sleep(0.02)

    app = sized(server.url, queue_name)
    async with working(app):
        job = await app.ref("size").enqueue(b"x")
        assert await job.result(timeout=10)
        began = time.monotonic()
        await asyncio.to_thread(server.kill)
        await until("cannot reach Redis at")
        assert time.monotonic() - began < 4
        await asyncio.sleep(2)
        assert lines("cannot reach Redis at") == 1
        await asyncio.to_thread(server.start)
        await until("answers again after")
        assert lines("connected to") == 0, "one line is enough"
        await asyncio.to_thread(server.kill)
    assert lines("stopped without signing off") == 1
    assert lines("has signed off") == 0
    assert not [record for record in caplog.records if "loop failed" in record.getMessage()]

"""Jobs are aborted in every state, from outside and by their tasks."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from ardiq import Abort, Ardiq, InvalidIdError, Job, Reject, TaskResult, TaskStatus
from tests.leftovers import leftovers
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name, concurrency=4)


@asynccontextmanager
async def working(app: Ardiq) -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        worker = asyncio.create_task(app.run(shutdown_grace_s=0))
        try:
            yield
        finally:
            app.stop()
            await worker


async def aborted(job: Job[Any], value: str = "aborted") -> TaskResult[Any]:
    """The result of an aborted job."""
    result = await job.result(timeout=10)
    assert (result.success, result.aborted, result.value, result.task_id) == (False, True, value, job.id)
    assert (result.error_type, result.traceback) == (None, None)
    return result


MakeServer = Callable[[], Server]


class Begun:
    """Says when a task has begun, in a thread or on the loop, and lets it end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.begun = asyncio.Event()
        self.go = threading.Event()

    def __call__(self) -> None:
        self._loop.call_soon_threadsafe(self.begun.set)

    async def wait(self) -> None:
        async with asyncio.timeout(10):
            await self.begun.wait()


async def test_a_job_that_no_worker_has_ends_at_once(app: Ardiq, server: Server) -> None:
    @app.task(unique=True, result_ttl_ms=0)
    async def never(number: int) -> None:
        raise AssertionError

    jobs = [
        await never.enqueue(1),
        await never.options(delay_ms=60_000).enqueue(2),
        await never.options(task_id="mine", priority="default").enqueue(3),
    ]
    for job in jobs:
        waiter = asyncio.create_task(aborted(job))
        await asyncio.sleep(0)
        assert await job.abort()
        result = await waiter
        assert (result.tries, result.start, result.fn_name) == (0, 0, "never")
        assert await job.status() is TaskStatus.COMPLETE
        assert await job.abort(timeout=0), "it has ended as aborted, by the first call"
    assert await app.queue_size() == 0
    again = await never.enqueue(1)
    assert again != jobs[0], "its identity is free"
    assert await again.abort()
    async with working(app):
        pass
    assert leftovers(server, app.queue_name) == []


async def test_a_running_coroutine_is_cancelled_and_may_clean_up(app: Ardiq, server: Server) -> None:
    begun, cleaned = Begun(), asyncio.Event()

    @app.task(max_retries=3)
    async def work() -> None:
        begun()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    async with working(app):
        job = await work.enqueue()
        await begun.wait()
        waiter = asyncio.create_task(aborted(job))
        assert await asyncio.gather(*(job.abort() for _ in range(3))) == [True] * 3
        result = await waiter
        assert cleaned.is_set()
        assert (result.tries, result.worker_id) == (1, app.worker_id)
        assert 0 < result.start <= result.finish
    assert leftovers(server, app.queue_name) == []


@pytest.mark.parametrize("ends", ["returns", "raises", "rejects"])
async def test_what_a_cancelled_task_does_does_not_matter(app: Ardiq, ends: str) -> None:
    begun = Begun()

    @app.task(max_retries=3)
    async def stubborn() -> str:
        begun()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if ends == "raises":
                raise ValueError(ends) from None
            if ends == "rejects":
                raise Reject(ends) from None
        return ends

    async with working(app):
        job = await stubborn.enqueue()
        await begun.wait()
        assert await job.abort()
        assert (await aborted(job)).tries == 1


async def test_the_thread_of_a_task_goes_on_alone(app: Ardiq, caplog: pytest.LogCaptureFixture) -> None:
    begun = Begun()

    @app.task(max_retries=3)
    def work() -> str:
        begun()
        begun.go.wait(20)
        return "late"

    async with working(app):
        job = await work.enqueue()
        await begun.wait()
        assert await job.abort()
        assert (await aborted(job)).tries == 1
        assert "still running although its run was abandoned" in caplog.text
        begun.go.set()
        other = await work.enqueue()
        assert (await other.result(timeout=10)).value == "late", "its slot is free"


async def test_a_task_that_waits_for_a_thread_does_not_start(
    server: Server, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ardiq")
    app = Ardiq(server.url, queue_name, concurrency=4, sync_concurrency=1)
    begun, starts = Begun(), list[int]()

    @app.task
    def work(number: int) -> int:
        starts.append(number)
        begun()
        begun.go.wait(20)
        return number

    async with working(app):
        first = await work.enqueue(1)
        await begun.wait()
        others = [await work.enqueue(number) for number in (2, 3)]
        while await app.queue_size() > 2 or len(await app.jobs("queued")) < 2:  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)
        assert await others[0].abort()
        assert (await aborted(others[0])).tries == 0
        assert others[0].id not in caplog.text, "it has made no attempt"
        begun.go.set()
        assert [(await job.result(timeout=10)).value for job in (first, others[1])] == [1, 3]
    assert starts == [1, 3]


async def test_a_job_that_waits_for_its_next_attempt_ends(app: Ardiq) -> None:
    @app.task(max_retries=5, backoff_ms=60_000)
    async def fail() -> None:
        raise ValueError

    async with working(app):
        job = await fail.enqueue()
        while await job.status() is not TaskStatus.SCHEDULED:  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)
        assert await job.abort()
        assert (await aborted(job)).tries == 1


async def test_a_job_that_fails_while_it_is_to_be_aborted_is_not_retried(app: Ardiq) -> None:
    begun = Begun()

    @app.task(max_retries=5, backoff_ms=1)
    async def block_and_fail() -> None:
        begun()
        begun.go.wait(20)  # the worker cannot cancel it meanwhile
        raise ValueError

    caller = Ardiq(app.redis_url, app.queue_name)
    worker = threading.Thread(target=lambda: asyncio.run(app.run()))
    worker.start()
    try:
        job = await caller.ref("block_and_fail").enqueue()
        await begun.wait()
        assert not await job.abort(timeout=0)
        begun.go.set()
        assert (await aborted(job)).tries == 1
    finally:
        begun.go.set()
        app.stop()
        await asyncio.to_thread(worker.join, 20)


async def test_finished_and_unknown_jobs_are_not_aborted(app: Ardiq) -> None:
    @app.task
    async def one() -> int:
        return 1

    @app.task(result_ttl_ms=0)
    async def gone() -> None: ...

    async with working(app):
        finished, forgotten = await one.enqueue(), await gone.enqueue()
        assert (await finished.result(timeout=10)).value == 1
        while await forgotten.status() is not TaskStatus.NOT_FOUND:  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)
        assert [await job.abort() for job in (finished, forgotten)] == [False, False]
        assert not await app.abort("no-such-job")
    assert (await finished.result(timeout=0)).success


async def test_an_occurrence_of_a_schedule_is_aborted(app: Ardiq) -> None:
    begun, ids = Begun(), list[str]()

    @app.cron(every=0.1, unique=True)
    async def tick() -> None:
        from ardiq import current_task

        context = current_task()
        assert context is not None
        ids.append(context.task_id)
        begun()
        await asyncio.sleep(60)

    async with working(app):
        await begun.wait()
        assert await app.abort(ids[0], timeout=timedelta(seconds=5))
        while len(ids) < 2:  # noqa: ASYNC110 - the schedule goes on
            await asyncio.sleep(0.01)


async def test_a_later_run_with_the_same_id_is_not_aborted(app: Ardiq) -> None:
    begun = Begun()

    @app.task
    async def work() -> int:
        begun()
        await asyncio.sleep(60 if begun.go.is_set() else 0)
        return 1

    async with working(app):
        begun.go.set()
        job = await work.options(task_id="a").enqueue()
        await begun.wait()
        assert await job.abort()
        begun.go.clear()
        again = await work.options(task_id="a").enqueue()
        assert (await again.result(timeout=10)).value == 1


async def test_an_outage_is_no_error_before_the_callers_time_is_up(make_server: MakeServer, queue_name: str) -> None:
    server = make_server()
    app = Ardiq(server.url, queue_name, connect_timeout_s=1)
    begun = Begun()

    @app.task
    async def work() -> None:
        begun()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.to_thread(begun.go.wait, 20)

    async with working(app):
        job = await work.enqueue()
        await begun.wait()
        waits = asyncio.create_task(job.abort(timeout=20))
        impatient = asyncio.create_task(job.abort(timeout=2))
        while not server.cli("EXISTS", f"ardiq:{{{queue_name}}}:aborting"):  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)
        waiters = f"ardiq:{{{queue_name}}}:waiters"
        while not server.cli("HEXISTS", waiters, job.id):  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)
        server.freeze()
        try:
            assert not await impatient, "its time was up during the outage"
            begun.go.set()
        finally:
            server.thaw()
        assert await waits
        await aborted(job)


async def test_ten_thousand_jobs_are_aborted_at_once(app: Ardiq, server: Server) -> None:
    @app.task
    async def work(number: int) -> None:
        await asyncio.sleep(60)

    jobs = await app.enqueue_many(work.prepare(number) for number in range(10_000))
    async with working(app):
        outcomes: list[bool] = []
        for first in range(0, len(jobs), 1000):
            outcomes += await asyncio.gather(*(job.abort(timeout=20) for job in jobs[first : first + 1000]))
    assert outcomes == [True] * len(jobs)
    assert leftovers(server, app.queue_name) == []


def test_blocking_calls_abort_too(app: Ardiq) -> None:
    task = app.ref("anything")
    job = task.enqueue_sync()
    assert job.abort_sync()
    assert app.abort_sync(job.id, timedelta(0))
    assert not app.abort_sync("no-such-job")


async def test_what_a_caller_may_not_pass_is_refused_before_any_request(app: Ardiq) -> None:
    job = Job[Any](app, "a")
    for timeout, error in [(-1, ValueError), (float("nan"), ValueError), ("5", TypeError), (None, TypeError)]:
        with pytest.raises(error, match="timeout"):
            await job.abort(timeout)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidIdError):
        await app.abort("two words")
    with pytest.raises(RuntimeError, match="await abort"):
        app.abort_sync("a")


@pytest.mark.parametrize("sync", [False, True])
async def test_a_task_aborts_its_own_job(app: Ardiq, sync: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ardiq")

    async def cancel_order(reason: str) -> None:
        raise Abort(reason)

    def cancel_in_thread(reason: str) -> None:
        raise Abort(reason)

    task = app.task(name="cancel", max_retries=3)(cancel_in_thread if sync else cancel_order)
    async with working(app):
        with_reason, without = await task.enqueue("no stock"), await task.enqueue("")
        assert (await aborted(with_reason, "aborted: no stock")).tries == 1
        await aborted(without)
    lines = [record for record in caplog.records if f"cancel[{with_reason.id}]" in record.getMessage()]
    assert [(line.levelno, vars(line)["outcome"]) for line in lines] == [(logging.INFO, "aborted")]

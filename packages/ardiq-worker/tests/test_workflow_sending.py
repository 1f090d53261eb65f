"""How a workflow is sent: once, with ids that are known in advance, and only if its calls fit."""

import asyncio
import gc
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import ardiq
from ardiq import Ardiq, BrokerUnreachableError, Job, PendingEnqueue, TaskStatus
from tests.leftovers import leftovers
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name, concurrency=4)


@pytest.fixture
def nowhere(queue_name: str) -> Ardiq:
    return Ardiq("redis://127.0.0.1:1", queue_name, connect_timeout_s=0.2)


def one_argument(app: Ardiq) -> Any:
    """A task that type checkers do not check, because the tests misuse it."""

    @app.task
    async def one(value: int, *, scale: int = 1) -> int:
        return value * scale

    return one


async def test_a_child_that_cannot_accept_the_outputs_is_an_error_at_once(app: Ardiq) -> None:
    one = one_argument(app)

    @app.task
    async def nothing() -> None: ...

    @app.task
    async def keyword(value: int, *, bucket: str) -> None: ...

    @app.task
    async def two(first: int, second: int) -> None: ...

    tasks: list[Any] = [nothing, keyword, two]
    none_taken, needs_bucket, takes_two = tasks
    parent = one.enqueue(1)
    with pytest.raises(TypeError, match="'nothing' takes no arguments by position, so it cannot get the output"):
        parent.then(none_taken)
    with pytest.raises(TypeError, match="'keyword' needs its argument 'bucket'"):
        parent.then(needs_bucket)
    with pytest.raises(TypeError, match="'one' gets its argument 'value' twice, from the output of another job"):
        parent.then(one, value=2)
    with pytest.raises(TypeError, match="'two' needs its argument 'second'"):
        parent.then(takes_two.options(unpack=False))
    second, third = one.enqueue(2), one.enqueue(3)
    with pytest.raises(TypeError, match="takes at most 2 arguments by position, not 3"):
        ardiq.gather(parent, second, third).then(takes_two)
    with pytest.raises(TypeError, match="'two' needs its argument 'second'"):
        ardiq.map(one, [1, 2]).then(takes_two)
    third.close()
    job = await ardiq.gather(parent, second).then(takes_two)
    info = await job.info()
    assert info is not None
    assert len(info.dependencies) == 2
    # How many items an output has is not known yet.
    await one.enqueue(1).then(takes_two)


async def test_a_group_is_sent_alone_and_again_returns_the_same_jobs(app: Ardiq) -> None:
    one = one_argument(app)
    existing, member = await one.enqueue(1), one.enqueue(2)
    group = ardiq.gather(member, existing, member)
    jobs = await group
    assert [job.id for job in jobs] == [member.id, existing.id, member.id]
    assert await group == jobs
    assert await member == jobs[0]
    assert await app.queue_size() == 2
    sent = await one.options(task_id="sent").enqueue(3)
    spent, unsent = one.enqueue(4), one.enqueue(5)
    await spent
    with pytest.raises(RuntimeError, match="awaited already; use the job that it returned"):
        await ardiq.gather(spent, unsent, sent)
    unsent.close()
    assert await app.queue_size() == 4, "nothing was sent"


def test_a_group_is_sent_from_code_without_an_event_loop(app: Ardiq) -> None:
    one = one_argument(app)
    jobs = ardiq.map(one, range(3)).enqueue_sync()
    assert [(job.info_sync() or pytest.fail("unknown")).args for job in jobs] == [(0,), (1,), (2,)]


async def test_ids_are_known_although_nothing_is_known_about_the_jobs(nowhere: Ardiq) -> None:
    one = one_argument(nowhere)
    parent = one.enqueue(1)
    child = parent.then(one)
    with pytest.raises(BrokerUnreachableError):
        await child
    assert len({parent.id, child.id, parent.id, child.id}) == 2
    with pytest.raises(RuntimeError, match="could not be sent"):
        child.then(one)
    with pytest.raises(RuntimeError, match="been sent already"):
        child.start(delay=1)
    del parent, child
    gc.collect()  # does not warn that nothing was sent


def test_a_workflow_that_could_not_be_sent_is_not_sent_again(nowhere: Ardiq) -> None:
    child = one_argument(nowhere).enqueue(1).then(nowhere.ref("two"))
    with pytest.raises(BrokerUnreachableError):
        child.enqueue_sync()
    with pytest.raises(RuntimeError):
        child.then(nowhere.ref("three"))
    del child
    gc.collect()


async def test_what_was_sent_cannot_be_started_otherwise(app: Ardiq) -> None:
    pending = one_argument(app).enqueue(1)
    await pending
    with pytest.raises(RuntimeError, match="sent already"):
        pending.start(delay=30)
    other = one_argument(Ardiq()).enqueue(1)
    with pytest.raises(TypeError, match="must be a datetime, not str; for a cron expression, use"):
        other.start(schedule="*/5 * * * *")
    other.close()


async def test_items_that_cannot_be_encoded_leave_nothing_to_await(app: Ardiq) -> None:
    with pytest.raises(ardiq.SerializationError):
        ardiq.map(one_argument(app), [1, 2, object()])
    gc.collect()


def test_threads_send_a_workflow_once(app: Ardiq) -> None:
    one = one_argument(app)
    parent = one.enqueue(1)
    ends: list[PendingEnqueue[int]] = [parent.then(one) for _ in range(8)]

    def send(pending: PendingEnqueue[int]) -> Job[int] | None:
        try:
            return pending.enqueue_sync()
        except RuntimeError:
            return None  # another thread is sending it

    with ThreadPoolExecutor(8) as threads:
        jobs = list(threads.map(send, ends))
    assert any(jobs)
    assert app.queue_size_sync() == 9


async def test_a_due_time_takes_precedence_over_a_delay(app: Ardiq) -> None:
    one = one_argument(app)
    soon = int(time.time() * 1000) + 300
    bound = one.options(delay_ms=3_600_000, schedule_ms=soon)
    root = bound.enqueue(1)
    last = await root.then(bound)
    worker = asyncio.create_task(app.run())
    try:
        assert (await last.result(timeout=20)).value == 1
    finally:
        app.stop()
        await worker


async def test_the_name_of_a_schedule_is_not_called_a_job_id(app: Ardiq) -> None:
    with pytest.raises(ardiq.InvalidIdError, match="the name of a schedule must consist of printable"):
        app.schedule("two words")


async def test_a_large_workflow_that_is_refused_leaves_no_job_waiting(
    app: Ardiq, server: Server, queue_name: str
) -> None:
    one = one_argument(app)

    @app.task(result_ttl_ms=0)
    async def unstored() -> int:
        return 1

    @app.task
    async def add_up(*values: int) -> int:
        return sum(values)

    worker = asyncio.create_task(app.run())
    try:
        gone = await unstored.enqueue()
        while await gone.status() is not TaskStatus.NOT_FOUND:  # noqa: ASYNC110 - nothing announces this
            await asyncio.sleep(0.01)
        # It is sent in several parts, and the last one is refused.
        with pytest.raises(ValueError, match="its result was not stored"):
            await ardiq.gather(gone, *[one.enqueue(n) for n in range(120)]).then(add_up)
        async with asyncio.timeout(20):
            while await app.queue_size():  # noqa: ASYNC110 - nothing announces this
                await asyncio.sleep(0.05)
    finally:
        app.stop()
        await worker
    assert leftovers(server, queue_name) == []


async def test_an_output_survives_a_join_that_fails_while_others_are_told(app: Ardiq) -> None:
    @app.task
    async def large() -> str:
        return "x" * 10_000

    @app.task(max_retries=0)
    async def fail() -> str:
        raise LookupError

    @app.task
    async def join(*texts: str) -> int:
        return sum(map(len, texts))

    worker = asyncio.create_task(app.run())
    try:
        good, bad = await large.enqueue(), await fail.enqueue()
        await good.result(timeout=10)
        await bad.result(timeout=10)
        failed, fine = ardiq.gather(good, bad).then(join), good.then(join)
        both = await ardiq.gather(failed, fine, on_failure="collect").then(app.ref("never"))
        assert both.id
        assert (await (await fine).result(timeout=10)).value == 10_000
        result = await (await failed).result(timeout=10)
        assert str(result.value) == f"dependency failed: {bad.id}"
    finally:
        app.stop()
        await worker

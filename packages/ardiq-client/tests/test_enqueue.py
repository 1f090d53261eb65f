"""Enqueuing on a real server: what arrives, what is returned, and which enqueues are the same
job.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from ardiq import (
    Ardiq,
    BrokerError,
    DeadJob,
    Job,
    PendingEnqueue,
    ResultNotFoundError,
    SerializationError,
    TaskInfo,
    TaskResult,
    TaskStatus,
    current_task,
)


class Server(Protocol):
    """What a test needs to know of a server."""

    @property
    def url(self) -> str: ...


@pytest.fixture
def app(server: Server, queue_name: str) -> Iterator[Ardiq]:
    app = Ardiq(server.url, queue_name, ["low", "default", "high"], burst=True)

    @app.task
    async def add(a: int, b: int) -> int:
        return a + b

    @app.task
    def fail() -> None:
        raise ValueError("no")

    @app.task
    async def whoami() -> Any:
        task = current_task()
        assert task is not None
        return [task.task_id, task.name, task.tries, task.queue, task.headers]

    @app.task(unique=True)
    async def once(a: int, b: int = 0) -> int:
        return a

    app.add, app.fail, app.whoami, app.once = add, fail, whoami, once  # type: ignore[attr-defined]
    yield app
    app._connection.close()


def batches(app: Ardiq, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many jobs each request of this loop carries."""
    from ardiq._core.loop_bridge import LoopBridge

    sizes: list[int] = []
    flush = LoopBridge._flush

    def counting(self: LoopBridge, owner: Ardiq) -> None:
        sizes.append(len(self._submissions))
        flush(self, owner)

    monkeypatch.setattr(LoopBridge, "_flush", counting)
    return sizes


async def test_a_job_is_enqueued_run_and_read(app: Any) -> None:
    before = int(time.time() * 1000)
    job = await app.add.enqueue(2, b=3)
    assert isinstance(job, Job)
    assert (job.app, len(job.id)) == (app, 32)
    assert await job.status() is TaskStatus.QUEUED
    assert await job.result() is None
    assert await app.queue_size() == 1
    info = await job.info()
    assert isinstance(info, TaskInfo)
    assert (info.task_id, info.fn_name, info.args, info.kwargs) == (job.id, "add", (2,), {"b": 3})
    assert (info.tries, info.status, info.scheduled_at, dict(info.headers)) == (0, "queued", None, {})
    assert abs(info.enqueue_time - before) < 60_000
    await app.run()
    result = await job.result()
    assert isinstance(result, TaskResult)
    assert (result.success, result.value, result.tries) == (True, 5, 1)
    assert before - 60_000 < result.enqueue_time <= result.start <= result.finish
    assert result.duration_ms == result.finish - result.start
    assert (result.task_id, result.fn_name, result.aborted, result.error_type) == (job.id, "add", False, None)
    assert result.worker_id
    assert await job.status() is TaskStatus.COMPLETE
    assert await job.info() is None
    assert await app.queue_size() == 0


async def test_nothing_is_known_of_an_unknown_job(app: Any) -> None:
    assert await app.status("unknown") == "not_found"
    assert await app.info("unknown") is None
    assert await app.result("unknown") is None
    for timeout in (timedelta(hours=1), 0):
        with pytest.raises(ResultNotFoundError, match="unknown"):
            await app.result("unknown", timeout=timeout)


async def test_a_wait_ends_when_its_time_is_over(app: Any) -> None:
    job = await app.add.enqueue(2, 3)
    with pytest.raises(TimeoutError, match=r"within 0\.05s") as raised:
        await job.result(timeout=timedelta(milliseconds=50))
    assert not isinstance(raised.value, ResultNotFoundError)
    with pytest.raises(TimeoutError):
        await job.result(timeout=0)


async def test_a_waiter_is_woken_by_the_result(app: Any) -> None:
    job = await app.add.enqueue(1, 1)
    waiters = [asyncio.create_task(job.result(timeout=30)) for _ in range(50)]
    await app.run()
    results = await asyncio.gather(*waiters)
    assert {result.value for result in results} == {2}


async def test_a_failure_has_the_repr_the_type_and_the_traceback(app: Any) -> None:
    app.task(app.fail.fn, name="fail.now", max_retries=0)
    job = await app.ref("fail.now").enqueue()
    await app.run()
    result = await job.result()
    assert (result.success, result.value, result.error_type) == (False, "ValueError('no')", "ValueError")
    assert 'raise ValueError("no")' in result.traceback


async def test_all_enqueues_of_one_turn_leave_together(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = batches(app, monkeypatch)
    jobs = await asyncio.gather(*(app.add.enqueue(n, 1) for n in range(500)))
    assert sizes == [500]
    assert len({job.id for job in jobs}) == 500
    assert await app.queue_size() == 500
    await app.run()
    assert [(await job.result()).value for job in jobs] == [n + 1 for n in range(500)]


async def test_an_enqueue_is_a_coroutine_to_everybody(app: Any) -> None:
    assert isinstance(app.add.enqueue(1, 1).close(), type(None))
    pending = app.add.enqueue(1, 1)
    assert isinstance(pending, PendingEnqueue)
    assert isinstance(pending, Coroutine)
    assert asyncio.iscoroutine(pending)
    jobs = [await pending, await asyncio.create_task(app.add.enqueue(1, 1))]
    jobs += await asyncio.gather(app.add.enqueue(1, 1), app.add.options(delay_ms=1).enqueue(1, 1))
    jobs.append(await asyncio.wait_for(app.add.enqueue(1, 1), 30))
    jobs.append(await asyncio.shield(app.add.enqueue(1, 1)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(app.add.enqueue(1, 1), name=f"t{n}") for n in range(3)]
    jobs += [task.result() for task in tasks]
    assert len({job.id for job in jobs}) == 9
    assert await app.queue_size() == 9


def test_an_enqueue_outside_of_a_loop_is_an_error_and_no_other(app: Any) -> None:
    pending = app.add.enqueue(1, 1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        pending.send(None)
    del pending  # without a warning: it was awaited


def test_a_loop_can_run_an_enqueue_itself(app: Any) -> None:
    assert isinstance(asyncio.run(app.add.enqueue(1, 1)), Job)


async def test_an_enqueue_is_awaited_once(app: Any) -> None:
    pending = app.add.enqueue(1, 1)
    await pending
    started = app.add.enqueue(1, 1)
    await asyncio.create_task(started)
    closed = app.add.enqueue(1, 1)
    closed.close()
    for spent in (pending, started, closed):
        with pytest.raises(RuntimeError, match="awaited already"):
            await spent
        with pytest.raises(RuntimeError, match="awaited already"):
            await asyncio.create_task(spent)
    assert await app.queue_size() == 2


async def test_an_enqueue_that_is_not_awaited_sends_nothing_and_says_so(app: Any) -> None:
    with pytest.warns(RuntimeWarning, match="the enqueue of 'add' was never awaited"):
        app.add.enqueue(1, 1)
    assert await app.queue_size() == 0


async def test_an_enqueue_cancelled_in_the_turn_in_which_it_was_made_sends_nothing(app: Any) -> None:
    never = asyncio.create_task(app.add.enqueue(1, 1))
    never.cancel()
    with pytest.raises(asyncio.CancelledError):
        await never

    async def give_up(task: asyncio.Task[Any]) -> None:
        task.cancel()

    started = asyncio.create_task(app.add.enqueue(1, 1))
    canceller = asyncio.create_task(give_up(started))
    kept = asyncio.create_task(app.add.enqueue(2, 2))
    await asyncio.wait([started, canceller, kept])
    assert started.cancelled()
    assert kept.result().app is app
    assert await app.queue_size() == 1


async def test_one_failure_reaches_every_enqueue_of_its_batch(queue_name: str) -> None:
    app = Ardiq("redis://127.0.0.1:1", queue_name, connect_timeout_s=0.3)
    started = time.monotonic()
    errors = await asyncio.gather(*(app.send("x") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(error, BrokerError) for error in errors)
    assert len({id(error) for error in errors}) == 20
    assert time.monotonic() - started < 5
    for ask in (app.queue_size(), app.status("x"), app.result("x", 0.1), app.inspect()):
        with pytest.raises(BrokerError):
            await ask
    for ask_sync in (lambda: app.ref("x").enqueue_sync(), app.queue_size_sync, lambda: app.info_sync("x")):
        with pytest.raises(BrokerError):
            await asyncio.to_thread(ask_sync)


async def test_a_delayed_job_is_scheduled_until_it_is_due(app: Any) -> None:
    delayed = await app.add.options(delay_ms=60_000).enqueue(1, 1)
    at = int(time.time() * 1000) + 3_600_000
    scheduled = await app.add.options(delay_ms=5, schedule_ms=at).enqueue(1, 1)
    past = await app.add.options(schedule_ms=1).enqueue(1, 1)
    for job in (delayed, scheduled):
        assert await job.status() is TaskStatus.SCHEDULED
    assert (await scheduled.info()).scheduled_at == at
    info = await delayed.info()
    assert info.scheduled_at - info.enqueue_time == 60_000
    assert await past.status() is TaskStatus.QUEUED
    assert await app.queue_size() == 3


async def test_an_id_names_one_unfinished_job(app: Any) -> None:
    task = app.add.options(task_id="sync:42")
    first, second = await asyncio.gather(task.enqueue(1, 1), task.enqueue(2, 2))
    third = await asyncio.to_thread(task.enqueue_sync, 3, 3)
    assert first == second == third
    assert hash(first) == hash(second)
    assert (first.id, await app.queue_size()) == ("sync:42", 1)
    await app.run()
    assert (await first.result()).value == 2
    again = await task.enqueue(4, 4)
    assert await again.result() is None
    await app.run()
    assert (await again.result()).value == 8


async def test_a_unique_call_is_one_job_until_it_ends(app: Any) -> None:
    first = await app.once.enqueue(1, b=2)
    assert await app.once.options(delay_ms=5).enqueue(a=1, b=2) == first
    other = await app.once.enqueue(2)
    forced = await app.once.options(unique=False).enqueue(1, 2)
    assert len({first.id, other.id, forced.id}) == 3
    assert await app.queue_size() == 3
    await app.run()
    assert await app.once.enqueue(1, 2) != first


async def test_headers_travel_with_the_job(app: Any) -> None:
    job = await app.whoami.options(task_id="me", headers={"trace": "ü", "n": ""}).enqueue()
    assert dict((await job.info()).headers) == {"trace": "ü", "n": ""}
    await app.run()
    assert (await job.result()).value == ["me", "whoami", 1, app.queue_name, {"trace": "ü", "n": ""}]


async def test_a_name_is_enough_to_enqueue(app: Any, server: Server) -> None:
    stranger = Ardiq(server.url, app.queue_name, ["low", "default", "high"])
    jobs = [await stranger.send("add", 1, b=2), await stranger.ref("add").options(priority="high").enqueue(3, 4)]
    jobs.append(await asyncio.to_thread(stranger.ref("add").enqueue_sync, 5, 6))
    await app.run()
    assert [(await job.result(10)).value for job in jobs] == [3, 7, 11]


async def test_lanes_count_in_the_inspection(app: Any) -> None:
    await app.enqueue_many([app.add.options(priority=lane).prepare(1, 1) for lane in ("low", "high", "high")])
    await app.add.options(delay_ms=60_000).enqueue(1, 1)
    state = await app.inspect()
    assert state["name"] == app.queue_name
    assert {lane["lane"]: lane["waiting"] for lane in state["lanes"]} == {"low": 1, "default": 0, "high": 2}
    assert (state["scheduled"], state["running"], state["waiting"], state["unfinished"]) == (1, 0, 4, 4)
    assert (state["dead"], state["workers"]) == (0, [])
    assert app.queue_name in await app.queues()
    assert [info.status for info in await app.jobs("scheduled")] == ["scheduled"]
    assert await app.jobs("running") == await app.jobs("dead") == []


async def test_arguments_that_cannot_be_decoded_do_not_hide_the_others(app: Any, server: Server) -> None:
    foreign = Ardiq(server.url, app.queue_name, app.priorities, serializer=lambda _: b"\xc1", deserializer=lambda _: 1)
    bad = await foreign.send("add", 1)
    await app.add.enqueue(1, 2)
    assert [info.args for info in await app.jobs("queued")] == [(), (1, 2)]
    with pytest.raises(SerializationError, match="1 bytes cannot be decoded"):
        await app.info(bad.id)
    await app.run()
    (dead,) = await app.jobs("dead")
    assert isinstance(dead, DeadJob)
    assert (dead.info.task_id, dead.info.fn_name, dead.info.args) == (bad.id, "add", ())
    assert dead.reason


async def test_values_cross_as_what_they_are(app: Any) -> None:
    @app.task(name="echo")  # type: ignore[untyped-decorator]
    async def echo(*args: Any, **kwargs: Any) -> Any:
        return (args, kwargs)

    values = ((1, [2, (3,)]), {"when": datetime(2026, 1, 1, tzinfo=UTC), "big": 2**70, "set": {1, 2}})
    job = await echo.enqueue(*values[0], **values[1])
    await app.run()
    assert (await job.result()).value == values


def test_without_a_loop_all_the_same(app: Any) -> None:
    job = app.add.enqueue_sync(2, 3)
    assert job.status_sync() is TaskStatus.QUEUED
    assert job.info_sync().args == (2, 3)
    assert app.queue_size_sync() == 1
    assert job.result_sync() is None
    with pytest.raises(TimeoutError):
        job.result_sync(timeout=0.01)
    asyncio.run(app.run())
    assert job.result_sync(timeout=10).value == 5
    assert app.status_sync(job.id) == "complete"

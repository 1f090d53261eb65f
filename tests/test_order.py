"""In which order and when jobs run, and what an enqueue means, observed from outside with a worker
in burst mode.
"""

import asyncio
from collections.abc import Callable

import pytest

from ardiq import Ardiq, TaskResult, TaskStatus, current_task
from tests.conftest import Measured
from tests.monitor import Monitor
from tests.programs import eventually
from tests.servers import Server

Make = Callable[..., Ardiq]


@pytest.fixture
def make(server: Server, queue_name: str) -> Make:
    def make_app(**options: object) -> Ardiq:
        return Ardiq(server.url, queue_name, **options)  # type: ignore[arg-type]

    return make_app


async def run_burst(app: Ardiq) -> None:
    async with asyncio.timeout(20):
        await app.run(burst=True)


async def stored(app: Ardiq, job_id: str) -> TaskResult[object]:
    result = await app.result(job_id)
    assert result is not None
    return result


async def test_burst_ends_when_nothing_waits_runs_or_is_due(make: Make) -> None:
    app = make(concurrency=2)
    done: list[str] = []

    @app.task(max_retries=1, backoff_ms=50)
    async def work(name: str) -> None:
        run = current_task()
        assert run is not None
        if name == "flaky" and run.tries == 1:
            raise ValueError(name)
        if name == "parent":
            await work.enqueue("child")
        done.append(name)

    await run_burst(app)
    for name in ("plain", "flaky", "parent"):
        await work.enqueue(name)
    await work.options(delay_ms=150).enqueue("delayed")
    await run_burst(app)
    assert sorted(done) == ["child", "delayed", "flaky", "parent", "plain"]
    assert (await app.inspect())["unfinished"] == 0


async def test_the_higher_lane_is_drained_first_and_each_lane_in_order(make: Make) -> None:
    app = make(priorities=["low", "high"], concurrency=1, prefetch=4)
    order: list[tuple[str, int]] = []

    @app.task
    async def note(lane: str, number: int) -> None:
        order.append((lane, number))

    for number in range(20):
        await note.options(priority="low").enqueue("low", number)
        await note.options(priority="high").enqueue("high", number)
    await run_burst(app)
    assert order == [("high", number) for number in range(20)] + [("low", number) for number in range(20)]


async def test_a_higher_lane_overtakes_what_was_enqueued_before(make: Make) -> None:
    app = make(priorities=["low", "high"], concurrency=1, prefetch=10)
    order: list[str] = []
    first = asyncio.Event()
    release = asyncio.Event()

    @app.task
    async def note(name: str) -> None:
        order.append(name)
        if name == "first":
            first.set()
            await release.wait()

    for name in ("first", *(f"low {number}" for number in range(5))):
        await note.options(priority="low").enqueue(name)
    running = asyncio.create_task(run_burst(app))
    await first.wait()
    for number in range(3):
        await note.options(priority="high").enqueue(f"high {number}")
    release.set()
    await running
    assert order == ["first", "high 0", "high 1", "high 2", *(f"low {number}" for number in range(5))]


@pytest.mark.parametrize("prefetch", [2, 3, None, 100])
async def test_a_worker_holds_nothing_ahead_of_runs_that_last(make: Make, prefetch: int | None) -> None:
    app = make(concurrency=2, prefetch=prefetch)
    release, running = asyncio.Event(), asyncio.Semaphore(0)

    @app.task
    async def wait() -> None:
        running.release()
        await release.wait()

    for _ in range(8):
        await wait.enqueue()
    worker = asyncio.create_task(run_burst(app))
    for _ in range(2):
        await running.acquire()
    state = await app.inspect()
    # One round trip later it would have taken more, if it did.
    later = await app.inspect()
    assert [each["lanes"][0]["held"] for each in (state, later)] == [2, 2]
    assert [each["lanes"][0]["waiting"] for each in (state, later)] == [6, 6]
    release.set()
    await worker


async def test_jobs_held_ahead_go_to_an_idle_worker_when_a_run_turns_out_long(make: Make) -> None:
    app, other = make(concurrency=1, prefetch=50), make(concurrency=1)
    blocked, release = asyncio.Event(), asyncio.Event()
    by_other: list[int] = []

    @app.task(name="work")
    async def work(number: int) -> None:
        if number == 100:
            blocked.set()
            await release.wait()

    @other.task(name="work")
    async def elsewhere(number: int) -> None:
        by_other.append(number)
        if len(by_other) == 20:
            release.set()

    # Short runs, and then a long one that the worker cannot foresee.
    await app.enqueue_many([work.prepare(number) for number in range(121)])
    worker = asyncio.create_task(run_burst(app))
    await blocked.wait()
    await run_burst_beside(other, release)
    await worker
    assert sorted(by_other) == list(range(101, 121))


async def run_burst_beside(app: Ardiq, end: asyncio.Event) -> None:
    running = asyncio.create_task(app.run())
    async with asyncio.timeout(20):
        await end.wait()
    app.stop()
    await running


async def test_a_job_expires_unless_it_has_started_in_time(make: Make) -> None:
    app = make(concurrency=1)

    @app.task(max_retries=1, backoff_ms=2100)
    async def work() -> str:
        run = current_task()
        assert run is not None
        if run.tries == 1:
            raise ValueError("once more")
        return "done"

    late = await work.options(expire_ms=50).enqueue()
    waiting = asyncio.create_task(late.result(timeout=10))
    await asyncio.sleep(0.1)  # the time that it has
    # This one starts in time; its retry, after that time, counts no more.
    early = await work.options(expire_ms=2000).enqueue()
    await run_burst(app)
    dropped = await waiting
    assert dropped is not None
    assert (dropped.success, dropped.value, dropped.tries, dropped.start) == (False, "expired", 0, 0)
    kept = await stored(app, early.id)
    assert (kept.success, kept.value, kept.tries) == (True, "done", 2)


@pytest.mark.parametrize(("window_ms", "value"), [(100, "expired"), (20_000, "done")])
async def test_the_time_to_start_counts_from_the_enqueue_and_not_from_when_a_job_is_due(
    make: Make, window_ms: int, value: str
) -> None:
    app = make()

    @app.task(expire_ms=50)
    async def work() -> str:
        return "done"

    job = await work.options(delay_ms=150, expire_ms=window_ms).enqueue()
    await run_burst(app)
    result = await stored(app, job.id)
    assert (result.success, result.value) == (value == "done", value)


async def test_delayed_jobs_start_on_time_and_never_early(make: Make, measured: Measured) -> None:
    app = make()

    @app.task
    async def work() -> None: ...

    worker = asyncio.create_task(app.run())
    await (await work.enqueue()).result(timeout=10)
    delays = [100 + 7 * number for number in range(50)]
    jobs = [await work.options(delay_ms=delay).enqueue() for delay in delays]
    results = await asyncio.gather(*(job.result(timeout=10) for job in jobs))
    late = [result.start - result.enqueue_time - delay for result, delay in zip(results, delays, strict=True)]
    app.stop()
    await worker
    measured("ms of lateness of delayed jobs, median", sorted(late)[25])
    measured("ms of lateness of delayed jobs, worst", max(late))
    assert len(late) == 50
    assert min(late) >= 0
    assert sorted(late)[25] < 100


async def test_an_absolute_time_wins_over_a_delay_and_the_past_means_now(make: Make, server: Server) -> None:
    app = make()

    @app.task
    async def work() -> None: ...

    seconds, _ = server.client().time()
    past = await work.options(schedule_ms=(seconds - 3600) * 1000, delay_ms=3_600_000).enqueue()
    assert await past.status() == TaskStatus.QUEUED
    future = await work.options(schedule_ms=(seconds + 3600) * 1000).enqueue()
    assert await future.status() == TaskStatus.SCHEDULED
    info = await future.info()
    assert info is not None
    assert info.scheduled_at == (seconds + 3600) * 1000


async def test_a_unique_call_is_held_through_its_retries_and_free_afterwards(make: Make) -> None:
    app = make()
    failed = asyncio.Event()

    @app.task(unique=True, max_retries=1, backoff_ms=400)
    async def sync(account: int) -> str:
        run = current_task()
        assert run is not None
        if run.tries == 1:
            failed.set()
            raise ValueError("not yet")
        return f"account {account}"

    worker = asyncio.create_task(app.run())
    first = await sync.enqueue(7)
    await failed.wait()
    await asyncio.to_thread(eventually, lambda: first.status_sync() == TaskStatus.SCHEDULED, "the retry is scheduled")
    assert (await sync.enqueue(account=7)).id == first.id
    assert (await sync.enqueue(8)).id != first.id
    result = await first.result(timeout=10)
    assert result is not None
    assert (result.value, result.tries) == ("account 7", 2)
    assert (await sync.enqueue(7)).id != first.id
    app.stop()
    await worker


async def test_an_id_names_one_job_at_a_time_and_a_new_run_replaces_the_old_result(make: Make, server: Server) -> None:
    app = make()
    values = iter(range(100))

    @app.task
    async def count() -> int:
        return next(values)

    once = count.options(task_id="the-one")
    with Monitor(server) as monitor:
        jobs = await asyncio.gather(*(once.enqueue() for _ in range(10)))
        jobs += [await once.enqueue() for _ in range(3)]
        assert {job.id for job in jobs} == {"the-one"}
        assert await app.queue_size() == 1
        await run_burst(app)
        assert (await stored(app, "the-one")).value == 0

        again = await once.enqueue()
        assert await again.status() == TaskStatus.QUEUED
        assert await again.result() is None
        await run_burst(app)
        assert (await stored(app, "the-one")).value == 1
    assert len(monitor.commits(f"ardiq:{{{app.queue_name}}}:job:")) == 2


@pytest.mark.parametrize(("ttl_ms", "lifetime_ms"), [(0, None), (-1, -1), (60_000, 60_000)])
async def test_results_are_kept_as_long_as_was_asked(
    make: Make, server: Server, ttl_ms: int, lifetime_ms: int | None
) -> None:
    app = make(result_ttl_ms=ttl_ms)

    @app.task
    async def work() -> str:
        return "value"

    job = await work.enqueue()
    waiting = asyncio.create_task(job.result(timeout=10))
    worker = asyncio.create_task(app.run())
    result = await waiting
    assert result is not None
    assert result.value == "value"  # a waiting caller receives it in any case
    app.stop()
    await worker
    key = f"ardiq:{{{app.queue_name}}}:job:{job.id}"
    if lifetime_ms is None:
        assert await job.result() is None
        assert await job.status() == TaskStatus.NOT_FOUND
    else:
        assert (await stored(app, job.id)).value == "value"
        left = server.cli("PTTL", key)
        assert left == -1 if lifetime_ms == -1 else lifetime_ms - 10_000 < left <= lifetime_ms


async def test_a_task_has_the_last_word_on_how_long_its_result_is_kept(make: Make, server: Server) -> None:
    app = make(result_ttl_ms=0)

    @app.task(result_ttl_ms=-1)
    async def keep() -> str:
        return "kept"

    job = await keep.enqueue()
    await run_burst(app)
    assert (await stored(app, job.id)).value == "kept"
    assert server.cli("PTTL", f"ardiq:{{{app.queue_name}}}:job:{job.id}") == -1


def test_a_result_ends_with_its_time(make: Make) -> None:
    app = make(result_ttl_ms=200)

    @app.task
    async def work() -> None: ...

    job = work.enqueue_sync()
    asyncio.run(run_burst(app))
    eventually(lambda: job.status_sync() == TaskStatus.NOT_FOUND, "the result is gone")
    assert job.result_sync() is None

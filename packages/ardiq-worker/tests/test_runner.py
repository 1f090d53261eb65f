"""The life of a worker: start, stop, grace period, cancellation, burst, and another run."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ardiq import Ardiq, Job, TaskResult, TaskStatus, current_task
from ardiq_worker.runner import Runner
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name)


@pytest.fixture
def other(server: Server, queue_name: str) -> Ardiq:
    """Another worker of the same queue."""
    return Ardiq(server.url, queue_name, burst=True)


@asynccontextmanager
async def serving(app: Ardiq, **overrides: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that runs during the block, which must stop it before its end."""
    worker = asyncio.create_task(app.run(**overrides))
    try:
        async with asyncio.timeout(20):
            yield worker
            await asyncio.wait([worker])
    finally:
        worker.cancel()
        await asyncio.wait([worker])


async def result(app: Ardiq, job_id: str) -> TaskResult[Any]:
    found = await app.result(job_id)
    assert found is not None
    return found


async def finished(job: Job[Any]) -> TaskResult[Any]:
    found = await job.result(timeout=10)
    assert found is not None
    return found


def tries() -> int:
    context = current_task()
    assert context is not None
    return context.tries


async def test_it_runs_until_stopped_and_again(app: Ardiq) -> None:
    @app.task
    async def double(number: int) -> int:
        return 2 * number

    for number in range(3):
        async with serving(app) as worker:
            assert (await finished(await double.enqueue(number))).value == 2 * number
            app.stop()
            app.stop()
        assert worker.exception() is None
    app.stop()  # nothing runs: nothing happens


def test_it_runs_in_one_loop_after_the_other(app: Ardiq) -> None:
    @app.task
    async def double(number: int) -> int:
        return 2 * number

    async def once(number: int) -> int:
        job = await double.enqueue(number)
        await app.run(burst=True)
        return int((await result(app, job.id)).value)

    assert [asyncio.run(once(number)) for number in range(3)] == [0, 2, 4]


async def test_one_app_has_one_worker_at_a_time(app: Ardiq) -> None:
    started = asyncio.Event()

    @app.task
    async def start() -> None:
        started.set()

    async with serving(app) as worker:
        await start.enqueue()
        await started.wait()
        with pytest.raises(RuntimeError, match="is already running"):
            await app.run()
        app.stop()
    assert worker.exception() is None


async def test_stop_lets_a_running_task_finish(app: Ardiq) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def long() -> str:
        started.set()
        await release.wait()
        return "finished"

    async with serving(app) as worker:
        job = await long.enqueue()
        await started.wait()
        app.stop()
        await asyncio.sleep(0)
        assert not worker.done()
        release.set()
    assert worker.exception() is None
    assert (await result(app, job.id)).value == "finished"


async def test_stop_from_another_thread(app: Ardiq) -> None:
    started = asyncio.Event()

    @app.task
    async def start() -> None:
        started.set()

    async with serving(app) as worker:
        await start.enqueue()
        await started.wait()
        threads = [threading.Thread(target=app.stop) for _ in range(4)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert worker.exception() is None


@pytest.mark.parametrize("sync", [False, True])
async def test_what_outlasts_the_grace_period_is_run_elsewhere_without_spending_a_try(
    app: Ardiq, other: Ardiq, sync: bool
) -> None:
    started, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def hang() -> None:
        started.set()
        await asyncio.sleep(60)

    def hang_in_thread() -> None:
        loop.call_soon_threadsafe(started.set)
        release.wait(20)

    hung = app.task(name="hang")(hang_in_thread if sync else hang)

    @other.task(name="hang")
    async def quick() -> int:
        return tries()

    async with serving(app, shutdown_grace_s=0.01) as worker:
        job = await hung.enqueue()
        await started.wait()
        app.stop()
    assert worker.exception() is None
    assert await app.status(job.id) == "queued"
    await other.run()
    release.set()
    assert (await result(other, job.id)).value == 1


async def test_what_has_not_started_goes_back_at_once(app: Ardiq, other: Ardiq) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def hold() -> int:
        started.set()
        await release.wait()
        return tries()

    held = app.task(hold)

    @other.task(name="hold")
    async def quick() -> int:
        return tries()

    async with serving(app, concurrency=1, prefetch=50) as worker:
        jobs = [await held.enqueue() for _ in range(20)]
        await started.wait()
        app.stop()
        # The first still runs here. The other worker has run all others in the meantime.
        elsewhere = asyncio.create_task(other.run(burst=False))
        for job in jobs[1:]:
            found = await finished(job)
            assert (found.value, found.worker_id) == (1, other.worker_id)
        assert not worker.done()
        release.set()
        other.stop()
        await elsewhere
    assert (await result(app, jobs[0].id)).worker_id == app.worker_id


async def test_skip_grace_hands_running_tasks_back_at_once(app: Ardiq) -> None:
    started = asyncio.Event()

    @app.task
    async def hang() -> None:
        started.set()
        await asyncio.sleep(60)

    async with serving(app) as worker:
        job = await hang.enqueue()
        await started.wait()
        runner = app._running.runner
        assert runner is not None
        app.stop()
        runner.skip_grace()
        runner.skip_grace()
    assert worker.exception() is None
    assert await app.status(job.id) == "queued"
    runner.stop()
    runner.skip_grace()  # long over: nothing happens


async def test_cancelling_stops_in_order(app: Ardiq) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def long() -> str:
        started.set()
        await release.wait()
        return "finished"

    async with serving(app) as worker:
        job = await long.enqueue()
        await started.wait()
        worker.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not worker.done()
        release.set()
    assert worker.cancelled()
    assert (await result(app, job.id)).value == "finished"


async def test_a_second_cancellation_skips_the_grace_period(app: Ardiq) -> None:
    started = asyncio.Event()

    @app.task
    async def hang() -> None:
        started.set()
        await asyncio.sleep(60)

    async with serving(app) as worker:
        job = await hang.enqueue()
        await started.wait()
        worker.cancel()
        await asyncio.sleep(0)
        worker.cancel()
    assert worker.cancelled()
    assert await app.status(job.id) == "queued"


async def test_burst_may_be_switched_on_while_it_runs(app: Ardiq) -> None:
    started = asyncio.Event()

    @app.task
    async def start() -> None:
        started.set()

    async with serving(app) as worker:
        await start.enqueue()
        await started.wait()
        assert not worker.done()
        app.burst = True
    assert worker.exception() is None


async def test_overrides_take_the_place_of_the_apps_options(app: Ardiq) -> None:
    with pytest.raises(TypeError):
        await app.run(colour="blue")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="concurrency"):
        await app.run(concurrency=0)
    with pytest.raises(ValueError, match="prefetch"):
        await app.run(concurrency=5, prefetch=4)
    with pytest.raises(TypeError, match="shutdown_grace_s"):
        await app.run(shutdown_grace_s="long")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.run(concurrency=5, burst=True)


async def test_a_deaf_task_does_not_keep_the_worker_from_ending(app: Ardiq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ardiq_worker.runner.CANCEL_WAIT_S", 0.05)
    started = asyncio.Event()

    @app.task
    async def deaf() -> None:
        started.set()
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    before = len(asyncio.all_tasks())
    async with serving(app, shutdown_grace_s=0) as worker:
        job = await deaf.enqueue()
        await started.wait()
        app.stop()
    assert worker.exception() is None
    assert await app.status(job.id) == "queued"
    assert len(asyncio.all_tasks()) == before


async def test_threads_end_with_the_run(app: Ardiq) -> None:
    @app.task
    def work() -> None: ...

    for _ in range(5):
        await work.enqueue()
    await app.run(burst=True)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ardiq-task")]


async def test_abandoned_threads_can_be_seen(app: Ardiq) -> None:
    release = threading.Event()

    @app.task(timeout=0.01, max_retries=0)
    def stuck() -> None:
        release.wait(20)

    async with serving(app) as worker:
        job = await stuck.enqueue()
        assert (await finished(job)).success is False
        runner = app._running.runner
        assert isinstance(runner, Runner)
        assert (runner.abandoned, runner.running) == (1, 0)
        release.set()
        app.stop()
    assert worker.exception() is None


def test_it_runs_on_a_loop_without_readers(app: Ardiq) -> None:
    refused: list[int] = []

    class Readerless(asyncio.SelectorEventLoop):
        """Watches no file descriptors for others."""

        def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
            refused.append(fd)
            raise NotImplementedError

    @app.task
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        return number

    jobs = [work.enqueue_sync(number) for number in range(50)]
    with asyncio.Runner(loop_factory=Readerless) as loop:
        loop.run(app.run(burst=True))
    assert refused
    for number, job in enumerate(jobs):
        found = job.result_sync(timeout=10)
        assert found is not None
        assert found.value == number
    assert not [thread for thread in threading.enumerate() if thread.name == "ardiq-wakeup"]


def test_a_job_that_runs_when_the_program_ends_is_returned_without_spending_a_try(app: Ardiq) -> None:
    started = asyncio.Event()

    @app.task
    async def nap() -> None:
        started.set()
        await asyncio.sleep(60)

    async def main() -> Job[None]:
        worker = asyncio.create_task(app.run())
        job = await nap.enqueue()
        await started.wait()
        assert not worker.done()
        return job  # and asyncio.run cancels whatever is left

    job = asyncio.run(main())
    info = job.info_sync()
    assert info is not None
    assert (info.status, info.tries) == (TaskStatus.QUEUED, 0)

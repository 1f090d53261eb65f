"""An observer of a worker receives every attempt that ends, once, and nothing else."""

import asyncio
import logging
import threading

import pytest

from ardiq import Abort, Ardiq, Reject, Retry, TaskStatus, current_task
from ardiq_worker import run_app
from ardiq_worker.observe import Attempt
from tests.programs import eventually
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    app = Ardiq(server.url, queue_name, burst=True, shutdown_grace_s=0)

    @app.task(max_retries=2, backoff_ms=1)
    async def flaky(good_at: int) -> str:
        context = current_task()
        assert context is not None
        if context.tries < good_at:
            raise Retry("not yet", delay_ms=3)
        return "done"

    @app.task(max_retries=2)
    async def reject() -> None:
        raise Reject("no such order")

    @app.task(max_retries=0, timeout=0.01)
    async def slow() -> None:
        await asyncio.sleep(600)

    @app.task(max_retries=0)
    def thread() -> str:
        return threading.current_thread().name

    @app.task(silent=True, max_retries=0)
    async def silent() -> None:
        raise ValueError

    @app.task(max_retries=3)
    async def cancel() -> None:
        raise Abort("no stock")

    @app.task(max_retries=0)
    async def unserializable() -> object:
        return object()

    return app


async def attempts(app: Ardiq) -> list[Attempt]:
    """Return what is shown of the waiting jobs."""
    seen: list[Attempt] = []
    async with asyncio.timeout(30):
        await run_app(app, observer=seen.append)
    return seen


async def test_an_aborted_job_is_seen_once_with_its_reason_and_without_a_traceback(
    app: Ardiq, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ardiq")
    job = await app.ref("cancel").enqueue()
    (seen,) = await attempts(app)
    assert (seen.task, seen.job_id, seen.number, seen.most) == ("cancel", job.id, 1, 4)
    assert (seen.outcome, seen.error, seen.traceback) == ("aborted", "aborted: no stock", "")
    assert job.id not in caplog.text, "the observer shows it instead"


async def test_every_attempt_is_seen_with_its_number_and_outcome(app: Ardiq) -> None:
    job = await app.ref("flaky").enqueue(3)
    seen = await attempts(app)
    assert [(one.number, one.most, one.outcome, one.delay_ms, one.error) for one in seen] == [
        (1, 3, "retry", 3, "Retry('not yet')"),
        (2, 3, "retry", 3, "Retry('not yet')"),
        (3, 3, "succeeded", 0, ""),
    ]
    assert {(one.task, one.job_id) for one in seen} == {("flaky", job.id)}
    assert all("raise Retry" in one.traceback for one in seen[:2])
    assert seen[2].traceback == ""
    assert all(one.seconds >= 0 for one in seen)


async def test_failures_of_every_kind_are_seen(app: Ardiq) -> None:
    for name in ("reject", "slow", "unserializable"):
        await app.ref(name).enqueue()
    seen = {one.task: one for one in await attempts(app)}
    assert {name: one.outcome for name, one in seen.items()} == dict.fromkeys(
        ("reject", "slow", "unserializable"), "failed"
    )
    assert seen["reject"].error == "Reject('no such order')"
    assert seen["slow"].error == "timed out after 0.01s"
    assert seen["slow"].seconds >= 0.01
    assert seen["unserializable"].error.startswith("the return value cannot be serialized")


async def test_a_task_in_a_thread_is_seen(app: Ardiq) -> None:
    await app.ref("thread").enqueue()
    (one,) = await attempts(app)
    assert (one.task, one.outcome) == ("thread", "succeeded")


async def test_a_silent_task_and_an_unknown_one_are_not_seen(app: Ardiq) -> None:
    await app.ref("silent").enqueue()
    seen: list[Attempt] = []
    unknown = await app.ref("unknown").enqueue()
    running = asyncio.create_task(run_app(app, observer=seen.append, burst=False))
    async with asyncio.timeout(30):
        delayed = lambda: unknown.status_sync() is TaskStatus.SCHEDULED  # noqa: E731
        await asyncio.to_thread(eventually, delayed, "the delay of the unknown one")
        app.stop()
        await running
    assert seen == []


async def test_a_job_that_is_returned_to_the_queue_is_not_seen(app: Ardiq) -> None:
    started = asyncio.Event()

    @app.task
    async def endless() -> None:
        started.set()
        await asyncio.sleep(600)

    await app.ref("endless").enqueue()
    seen: list[Attempt] = []
    running = asyncio.create_task(run_app(app, observer=seen.append))
    async with asyncio.timeout(30):
        await started.wait()
        app.stop()
        await running
    assert seen == []


async def test_an_observer_that_raises_costs_no_outcome(app: Ardiq, caplog: pytest.LogCaptureFixture) -> None:
    job = await app.ref("flaky").enqueue(1)

    def observer(_attempt: Attempt) -> None:
        raise RuntimeError("the screen is gone")

    async with asyncio.timeout(30):
        await run_app(app, observer=observer)
    result = await job.result()
    assert result is not None
    assert result.value == "done"
    assert "a finished job could not be shown: RuntimeError('the screen is gone')" in caplog.text


async def test_without_an_observer_the_log_has_the_failures(app: Ardiq, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    await app.ref("reject").enqueue()
    async with asyncio.timeout(30):
        await run_app(app)
    assert "failed on attempt 1 of 3" in caplog.text

"""Runs that code other than the worker cancels, in a program that runs the worker on its own event
loop.
"""

import asyncio
import gc
import logging
from typing import Any

import pytest

from ardiq import Ardiq, BrokerError, Job, TaskStatus
from ardiq.host import Host
from ardiq_worker.runner import Runner
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name, shutdown_grace_s=0.1)


def state(job: Job[Any]) -> tuple[TaskStatus, int]:
    info = job.info_sync()
    assert info is not None
    return info.status, info.tries


def cancel_all() -> None:
    for task in asyncio.all_tasks():
        task.cancel()


@pytest.mark.parametrize("suspends", [False, True])
def test_a_run_that_cancels_all_tasks_spends_its_try_and_no_other(
    app: Ardiq, caplog: pytest.LogCaptureFixture, suspends: bool
) -> None:
    started = asyncio.Event()

    @app.task
    async def bystander() -> None:
        started.set()
        await asyncio.sleep(60)

    @app.task(backoff_ms=3_600_000)
    async def culprit() -> None:
        await started.wait()
        if suspends:
            await asyncio.sleep(0)
        cancel_all()
        await asyncio.sleep(60)

    other, job = bystander.enqueue_sync(), culprit.enqueue_sync()
    with caplog.at_level(logging.INFO, "ardiq.worker"), pytest.raises(asyncio.CancelledError):
        asyncio.run(app.run())
    assert state(job) == (TaskStatus.SCHEDULED, 1)
    assert state(other) == (TaskStatus.QUEUED, 0)
    assert (
        f"culprit[{job.id}] cancelled all asyncio tasks of the worker; other jobs returned to the queue: 1"
        in caplog.text
    )
    assert "grace period" not in caplog.text, "nothing that is not so"


def test_two_runs_that_cancel_all_tasks_both_spend_a_try(app: Ardiq) -> None:
    ready = asyncio.Barrier(2)

    @app.task(backoff_ms=3_600_000)
    async def culprit() -> None:
        try:
            await ready.wait()
        finally:  # the second has been cancelled by the first
            cancel_all()
        await asyncio.sleep(60)

    jobs = [culprit.enqueue_sync() for _ in range(2)]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(app.run())
    assert [state(job) for job in jobs] == [(TaskStatus.SCHEDULED, 1)] * 2


@pytest.mark.parametrize("how", ["the end of asyncio.run", "the application"])
def test_a_program_that_cancels_all_tasks_stops_its_worker(app: Ardiq, how: str) -> None:
    started = asyncio.Event()

    @app.task
    async def sleeps() -> None:
        started.set()
        await asyncio.sleep(60)

    job = sleeps.enqueue_sync()

    async def program() -> None:
        running = asyncio.create_task(app.run())
        async with asyncio.timeout(20):
            await started.wait()
            if how == "the application":
                tasks = asyncio.all_tasks() - {asyncio.current_task()}
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert running.cancelled()

    asyncio.run(program())
    assert state(job) == (TaskStatus.QUEUED, 0)


async def test_nothing_is_left_of_a_run(app: Ardiq) -> None:
    app.stop()
    before = len(asyncio.all_tasks())
    await app.run(burst=True)
    await asyncio.sleep(0)
    gc.collect()
    assert len(asyncio.all_tasks()) == before


async def test_the_log_does_not_speak_of_the_grace_period_when_the_worker_has_failed(
    app: Ardiq, caplog: pytest.LogCaptureFixture
) -> None:
    started = asyncio.Event()

    @app.task
    async def sleeps() -> None:
        started.set()
        await asyncio.sleep(60)

    job = await sleeps.enqueue()
    running = asyncio.create_task(app.run())
    async with asyncio.timeout(20):
        await started.wait()
        runner = Host(app).runner
        assert isinstance(runner, Runner)
        with caplog.at_level(logging.INFO, "ardiq.worker"):
            runner._on_event("failed", "the engine is gone")
            with pytest.raises(BrokerError, match="the engine is gone"):
                await running
    assert f"sleeps[{job.id}] was cancelled because the worker has failed" in caplog.text
    assert "grace period" not in caplog.text
    assert "returned to the queue" not in caplog.text

"""Callers follow a job until it has ended."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from ardiq import Ardiq, BrokerUnreachableError, Job, JobEvent, Retry, TaskStatus
from tests.leftovers import keys, leftovers
from tests.noting import Gate, here, value, working
from tests.servers import Server

MakeServer = Callable[..., Server]


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name, concurrency=4)


async def collected(job: Job[Any]) -> list[JobEvent[Any]]:
    async with asyncio.timeout(20):
        return [event async for event in job.events()]


async def test_events_lead_from_the_queue_to_the_result(app: Ardiq, server: Server) -> None:
    gate = Gate()

    @app.task(max_retries=1)
    async def work() -> str:
        await gate.wait()
        await here().progress(here().tries, 2)
        if here().tries == 1:
            raise Retry(delay_ms=500)
        return "done"

    @app.task
    async def occupy() -> None:
        await gate.wait()

    seen: list[JobEvent[str]] = []
    begun: set[int] = set()
    # The worker starts first: one that starts later learns of the follower within 5 s.
    async with asyncio.timeout(25), working(app, concurrency=1):
        await occupy.enqueue()
        await gate.arrival()
        job = await work.enqueue()
        async for event in job.events():
            if not seen:
                gate.open()
            seen.append(event)
            if event.status is TaskStatus.RUNNING and event.tries not in begun:
                begun.add(event.tries)
                gate.open()
    found = [(event.status, event.tries, event.progress and event.progress.done) for event in seen]
    assert found[0] == (TaskStatus.QUEUED, 0, None)
    assert (TaskStatus.RUNNING, 1, None) in found
    assert (TaskStatus.SCHEDULED, 1, 1) in found
    assert (TaskStatus.RUNNING, 2, 1) in found
    assert found[-1] == (TaskStatus.COMPLETE, 2, 2)
    assert [event.result for event in seen[:-1]] == [None] * (len(seen) - 1)
    assert seen[-1].result is not None
    assert seen[-1].result.value == "done"
    assert leftovers(server, app.queue_name) == []


async def test_many_follow_one_job(app: Ardiq) -> None:
    gate = Gate()

    @app.task
    async def work() -> None:
        await gate.wait()

    async with working(app):
        job = await work.enqueue()
        followers = [asyncio.create_task(collected(job)) for _ in range(20)]
        await gate.arrival()
        gate.open()
        ends = [events[-1] for events in await asyncio.gather(*followers)]
        assert [event.status for event in ends] == [TaskStatus.COMPLETE] * 20


async def test_a_result_that_is_not_stored_reaches_the_last_event(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name, result_ttl_ms=0)
    gate = Gate()

    @app.task
    async def work() -> int:
        await gate.wait()
        return 5

    async with working(app):
        job = await work.enqueue()
        async with aclosing(job.events()) as events:
            first = await anext(events)
            assert first.result is None
            await gate.arrival()
            gate.open()
            *_, last = [event async for event in events]
        assert last.result is not None
        assert last.result.value == 5
        (again,) = await collected(job)
        assert again == (TaskStatus.NOT_FOUND, 0, None, None)
        (unknown,) = await collected(Job(app, "unknown"))
        assert unknown.status is TaskStatus.NOT_FOUND


async def test_a_caller_that_stops_leaves_nothing_behind(app: Ardiq, server: Server) -> None:
    job = await app.ref("never").enqueue()
    before = keys(server, app.queue_name)
    async for event in job.events():
        assert event.status is TaskStatus.QUEUED
        break
    task = asyncio.create_task(collected(job))
    async with asyncio.timeout(20):
        while "waiters" not in keys(server, app.queue_name):  # noqa: ASYNC110 - the server says so
            await asyncio.sleep(0.01)
        task.cancel()
        while keys(server, app.queue_name) != before:  # noqa: ASYNC110 - the server says so
            await asyncio.sleep(0.01)


async def test_events_survive_a_restart_of_the_server(make_server: MakeServer, queue_name: str) -> None:
    server = make_server(append_only=True)
    app = Ardiq(server.url, queue_name)
    gate = Gate()

    @app.task
    async def work() -> None:
        for number in range(2):
            await gate.wait()
            await here().progress(number)

    async with working(app, grace_s=5):
        job = await work.enqueue()
        async with aclosing(job.events()) as events:
            await anext(events)
            await gate.arrival()
            server.stop()
            server.start()
            gate.open()
            while (await anext(events)).progress is None:
                pass
            await gate.arrival()
            gate.open()
            *_, last = [event async for event in events]
    assert last.status is TaskStatus.COMPLETE
    # The job may end before the worker knows again that it is followed: then its last progress is
    # not sent.
    assert last.progress is not None


async def test_events_of_an_unreachable_server_are_an_error(queue_name: str) -> None:
    app = Ardiq("redis://127.0.0.1:1", queue_name, connect_timeout_s=0.2)
    with pytest.raises(BrokerUnreachableError):
        await collected(Job(app, "id"))
    with pytest.raises(BrokerUnreachableError):
        await Job(app, "id").progress()


async def test_events_reach_a_caller_that_reads_them_late(app: Ardiq) -> None:
    gate = Gate()

    @app.task
    async def work() -> None:
        await gate.wait()
        await here().progress(1)
        await gate.wait()
        await here().progress(2)

    async with working(app):
        job = await work.enqueue()
        async with aclosing(job.events()) as events:
            await anext(events)
            await gate.arrival()
            gate.open()
            # From then on, the worker knows that the job is followed.
            while (await anext(events)).progress is None:
                pass
            await gate.arrival()
            gate.open()
            await value(job)
            rest = [event async for event in events]
    assert rest[-1].status is TaskStatus.COMPLETE
    assert rest[-1].progress is not None
    assert rest[-1].progress.done == 2

"""The error after a wait for a result in vain says where the job is, and what to do."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ardiq import Ardiq, BrokerRefusedError, Job, Retry, _core
from ardiq.late import LOOK_S, timed_out
from tests.servers import Server

Ask = Callable[[Job[Any], float], Coroutine[Any, Any, str]]


async def on_the_loop(job: Job[Any], timeout: float) -> str:
    with pytest.raises(TimeoutError) as raised:
        await job.result(timeout=timeout)
    return str(raised.value)


async def in_a_thread(job: Job[Any], timeout: float) -> str:
    with pytest.raises(TimeoutError) as raised:
        await asyncio.to_thread(job.result_sync, timeout)
    return str(raised.value)


@pytest.fixture(params=[on_the_loop, in_a_thread])
def ask(request: pytest.FixtureRequest) -> Ask:
    how: Ask = request.param
    return how


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name)


async def until(job: Job[Any], ask: Ask, words: str) -> None:
    """Wait repeatedly until the error contains this."""
    async with asyncio.timeout(30):
        while words not in await ask(job, 0.05):
            pass


async def test_without_a_worker_the_lane_is_named_and_a_command_that_shows_its_workers(app: Ardiq, ask: Ask) -> None:
    job = await app.send("greet")
    said = await ask(job, 0.05)
    assert said == (
        f"no result within 0.05s from queue '{app.queue_name}' at {app.redis_url}; no worker has started the job, which "
        f"waits in lane 'default': ardiq inspect workers --queue {app.queue_name} lists its workers, if any run"
    )


async def test_a_job_for_later_is_scheduled(app: Ardiq, ask: Ask) -> None:
    job = await app.ref("greet").options(delay_ms=3_600_000).enqueue()
    assert (await ask(job, 0.05)).endswith("; the job is scheduled for later")


async def test_what_a_worker_makes_of_the_job(app: Ardiq, ask: Ask) -> None:
    release = asyncio.Event()

    @app.task
    async def hold() -> None:
        await release.wait()

    @app.task
    async def fail() -> None:
        raise Retry("later", delay_ms=3_600_000)

    worker = asyncio.create_task(app.run())
    running, failed, unknown = await hold.enqueue(), await fail.enqueue(), await app.send("great")
    await until(running, ask, f"; attempt 1 is running on worker {app.worker_id}")
    await until(failed, ask, "; attempt 1 failed, and the next one is scheduled")
    await until(unknown, ask, "; its workers do not know the task 'great': start one that has it, or correct the name")
    release.set()
    assert (await running.result(timeout=20)).success
    app.stop()
    await worker


async def test_a_job_that_finishes_after_the_wait_has_finished(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name, burst=True)

    @app.task
    async def greet() -> None: ...

    job = await greet.enqueue()
    await app.run()
    assert str(await timed_out(app, job.id, 50)).endswith(
        "; the job has finished in the meantime: ask for the result again"
    )
    assert str(await timed_out(app, "made-up", 50)).endswith("; the job may still be running or waiting for a worker")


async def test_a_wait_that_only_looks_asks_nothing_more(app: Ardiq, ask: Ask) -> None:
    job = await app.send("greet")
    assert (await ask(job, 0)).endswith("; the job may still be running or waiting for a worker")


async def test_of_callers_that_give_up_together_one_asks(app: Ardiq) -> None:
    job = await app.send("greet")
    said = await asyncio.gather(*(on_the_loop(job, 0.2) for _ in range(50)))
    told = [one for one in said if "no worker has started the job" in one]
    assert told
    assert len(told) < len(said)


async def test_a_server_that_does_not_answer_delays_the_error_only_a_little(
    make_server: Callable[..., Server], queue_name: str, ask: Ask
) -> None:
    server = make_server()
    app = Ardiq(server.url, queue_name, connect_timeout_s=60)
    job = await app.send("greet")
    assert "no worker has started the job" in await ask(job, 0.05)
    wait = asyncio.create_task(ask(job, 2))
    async with asyncio.timeout(30):
        while server.cli("HLEN", f"ardiq:{{{queue_name}}}:waiters") == 0:  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)
    server.freeze()
    began = time.monotonic()
    try:
        assert (await wait).endswith("; the job may still be running or waiting for a worker")
    finally:
        server.thaw()
    assert time.monotonic() - began < 2 + 2 * LOOK_S + 1
    assert "no worker has started the job" in await ask(job, 0.05)


async def test_an_error_of_the_question_is_not_that_of_the_wait(
    app: Ardiq, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise BrokerRefusedError("not allowed")

    job = await app.send("greet")
    monkeypatch.setattr(_core, "lookup", lambda job_id: refuse)
    for _ in range(2):
        assert (await ask(job, 0.05)).endswith("; the job may still be running or waiting for a worker")
    monkeypatch.undo()
    assert "no worker has started the job" in await ask(job, 0.05)

"""Many enqueues in few requests: their order, how many are in flight, and what happens when
something fails.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from ardiq import Ardiq, BrokerError, SerializationError
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Iterator[Any]:
    app = Ardiq(server.url, queue_name)

    @app.task
    async def add(a: int, b: int) -> int:
        return a + b

    app.add = add  # type: ignore[attr-defined]
    yield app
    app._connection.close()


async def test_many_go_in_order_and_in_few_requests(app: Any) -> None:
    calls = [app.add.options(task_id=f"n{n}").prepare(n, n) for n in range(2500)]
    jobs = await app.enqueue_many(iter(calls))
    assert [job.id for job in jobs] == [f"n{n}" for n in range(2500)]
    assert await app.queue_size() == 2500
    assert await app.enqueue_many([]) == []
    assert await asyncio.to_thread(app.enqueue_many_sync, calls[:3]) == jobs[:3]
    assert [info.task_id for info in await app.jobs("queued", 3)] == ["n0", "n1", "n2"]


async def test_the_next_calls_are_made_while_earlier_ones_are_in_flight(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sent = 0
    ahead: list[int] = []
    in_flight: list[int] = []

    def calls() -> Iterator[Any]:
        nonlocal made
        for number in range(10_000):
            made += 1
            yield app.add.options(task_id=f"n{number}").prepare(number, 1)

    bridge = app._connection._bridge_of(asyncio.get_running_loop())
    mailbox = bridge._mailbox

    class Mailbox:
        def enqueue(self, request_id: int, jobs: list[Any]) -> None:
            nonlocal sent
            ahead.append(made - sent)
            in_flight.append(len(bridge._waiting))
            sent += len(jobs)
            mailbox.enqueue(request_id, jobs)

        def __getattr__(self, name: str) -> Any:
            return getattr(mailbox, name)

    monkeypatch.setattr(bridge, "_mailbox", Mailbox())
    jobs = await app.enqueue_many(calls())
    assert [job.id for job in jobs] == [f"n{number}" for number in range(10_000)]
    assert ahead == [1000] * 10  # each thousand was sent before the next one was made
    assert in_flight[:4] == [1, 2, 3, 4]  # no request waited for an answer until then
    assert max(in_flight) == 4
    assert await app.queue_size() == 10_000


@pytest.mark.parametrize("sync", [False, True])
async def test_what_was_sent_before_a_call_that_cannot_be_made_stays(app: Any, sync: bool) -> None:
    def calls() -> Iterator[Any]:
        for number in range(2500):
            yield app.add.prepare(number, object() if number == 2100 else 1)

    with pytest.raises(SerializationError, match="argument 1"):
        await (asyncio.to_thread(app.enqueue_many_sync, calls()) if sync else app.enqueue_many(calls()))
    # The two requests before it were in flight when the error was raised, and no caller waits for
    # their answers.
    async with asyncio.timeout(10):
        while await app.queue_size() < 2000:  # each look is a round trip
            pass
    assert await app.queue_size() == 2000
    assert len(await app.enqueue_many([app.add.prepare(1, 2)])) == 1


async def test_many_that_cannot_reach_redis_fail_with_one_error() -> None:
    app = Ardiq("redis://127.0.0.1:1", connect_timeout_s=0.2)

    @app.task
    def work() -> None: ...

    with pytest.raises(BrokerError, match="cannot reach Redis"):
        await app.enqueue_many(work.prepare() for _ in range(9000))
    with pytest.raises(BrokerError, match="cannot reach Redis"):
        await asyncio.to_thread(app.enqueue_many_sync, (work.prepare() for _ in range(9000)))


async def test_giving_up_many_leaves_no_caller_waiting(app: Any) -> None:
    task = asyncio.ensure_future(app.enqueue_many(app.add.prepare(n, 1) for n in range(9000)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app._connection._bridge_of(asyncio.get_running_loop())._waiting == {}
    assert len(await app.enqueue_many([app.add.prepare(1, 2)])) == 1

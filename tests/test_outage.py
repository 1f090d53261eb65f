"""Redis goes away, comes back, or loses its data: workers and producers recover without help."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from ardiq import Ardiq, BrokerError, BrokerUnreachableError
from tests.conftest import FleetFactory, Measured, ServerFactory
from tests.fleet import Fleet
from tests.programs import eventually
from tests.servers import Kind, Server

DURABLE = {"append_only": True, "options": {"appendfsync": "always"}}
CONNECT_S = 1.0
BACK_S = 5.0
"""How long after the return of Redis everything must work again."""

SLACK_S = 1.0
"""How much time a busy machine may need in addition to a limit."""


class Producer:
    """Enqueues one job after the other and records the outcome of each call."""

    def __init__(self, fleet: Fleet) -> None:
        self._task = fleet.app.ref("echo")
        self._stop = asyncio.Event()
        self.accepted: dict[str, int] = {}
        self.refused = 0
        self.slowest_s = 0.0
        self.change = asyncio.Condition()

    async def run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            began = time.monotonic()
            try:
                job = await self._task.enqueue(number)
                self.accepted[job.id] = number
            except BrokerError:
                self.refused += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            async with self.change:
                self.change.notify_all()
            await asyncio.sleep(0.01)  # a steady stream, not as much as possible

    async def more(self) -> None:
        """Wait until ten further calls have been accepted."""
        wanted = len(self.accepted) + 10
        async with self.change:
            await self.change.wait_for(lambda: len(self.accepted) >= wanted)

    def stop(self) -> None:
        self._stop.set()


@pytest.mark.parametrize("outage_s", [3, pytest.param(10, marks=pytest.mark.slow)])
async def test_redis_restarts_while_jobs_are_enqueued_and_run(
    outage_s: int, make_server: ServerFactory, make_fleet: FleetFactory, measured: Measured
) -> None:
    server = make_server(**DURABLE)
    fleet = make_fleet(server, connect_timeout_s=CONNECT_S)
    worker = await asyncio.to_thread(fleet.worker)
    producer = Producer(fleet)
    producing = asyncio.create_task(producer.run())
    async with asyncio.timeout(40):
        await producer.more()
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(outage_s)
        assert producer.refused >= 2
        await asyncio.to_thread(server.start)
        back = time.monotonic()
        await producer.more()
        last = list(producer.accepted)[-1]
        await fleet.app.result(last, timeout=BACK_S)
        back_s = time.monotonic() - back
        producer.stop()
        await producing
        results = await asyncio.gather(*(fleet.app.result(job, timeout=10) for job in producer.accepted))
    assert back_s <= BACK_S
    assert producer.slowest_s <= CONNECT_S + SLACK_S
    assert [result.value for result in results] == list(producer.accepted.values())
    assert worker.process.poll() is None
    measured("ms from the return of Redis to a result", 1000 * back_s)
    measured(f"ms of the slowest call, connect timeout {1000 * CONNECT_S:g} ms", 1000 * producer.slowest_s)


async def test_a_server_that_does_not_answer_is_an_error_within_the_connect_timeout(
    make_server: ServerFactory, queue_name: str
) -> None:
    server = make_server()
    fresh, used = (Ardiq(server.url, queue_name, connect_timeout_s=0.3) for _ in range(2))
    assert await used.queue_size() == 0
    server.freeze()
    for app in (fresh, used):
        asked = [*every_question(app), *map(in_thread, every_blocking_question(app))]
        async with asyncio.timeout(0.3 + SLACK_S):
            answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [BrokerUnreachableError] * len(asked)
    server.thaw()
    for app in (fresh, used):
        assert await app.status("unknown") == "not_found"
        assert await asyncio.to_thread(app.status_sync, "unknown") == "not_found"


def every_question(app: Ardiq) -> list[Awaitable[object]]:
    task = app.ref("x")
    return [
        *(app.queue_size(), app.status("x"), app.info("x"), app.result("x"), app.result("x", 20)),
        *(app.inspect(), app.queues(), app.jobs("queued"), app.jobs("dead")),
        *(task.enqueue(), app.enqueue_many([task.prepare()]), app.run()),
    ]


def every_blocking_question(app: Ardiq) -> list[Callable[[], object]]:
    task = app.ref("x")
    return [
        *(app.queue_size_sync, lambda: app.status_sync("x"), lambda: app.info_sync("x")),
        *(lambda: app.result_sync("x"), lambda: app.result_sync("x", 20)),
        *(task.enqueue_sync, lambda: app.enqueue_many_sync([task.prepare()])),
    ]


def in_thread(ask: Callable[[], object]) -> Awaitable[object]:
    """Ask in a separate thread. A call that hangs does not keep the test from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[object] = loop.create_future()

    def run() -> None:
        try:
            found, error = ask(), None
        except Exception as raised:  # noqa: BLE001 - whichever it is, it is the answer
            found, error = None, raised
        loop.call_soon_threadsafe(lambda: answer.set_exception(error) if error else answer.set_result(found))

    threading.Thread(target=run, daemon=True).start()
    return answer


async def test_a_worker_goes_on_when_its_server_thaws(
    make_server: ServerFactory, make_fleet: FleetFactory, measured: Measured
) -> None:
    server = make_server()
    # The outage is longer than a call waits, and shorter than the lease, as in production.
    fleet = make_fleet(server, connect_timeout_s=0.3, concurrency=2)
    worker = await asyncio.to_thread(fleet.worker)
    running = await fleet.app.ref("held").enqueue()
    await asyncio.to_thread(fleet.await_held, 1, 1)
    waiting = asyncio.create_task(running.result(timeout=30))
    await asyncio.to_thread(
        eventually, lambda: server.cli("HEXISTS", fleet.key("waiters"), running.id), "the caller is registered"
    )
    server.freeze()
    try:
        for _ in range(3):
            with pytest.raises(BrokerError):
                await fleet.app.ref("echo").enqueue(1)
        fleet.open_gate()  # ends, and cannot say so
        await asyncio.to_thread(eventually, lambda: fleet.journal[-1].event == "end", "the end of the task")
        assert worker.process.poll() is None
    finally:
        server.thaw()
    back = time.monotonic()
    result = await waiting
    measured("ms from the thaw of Redis to a result that was waited for", 1000 * (time.monotonic() - back))
    assert result is not None
    assert (result.value, result.tries) == (worker.pid, 1)
    assert len(fleet.starts(running.id)) == 1
    found = await (await fleet.app.ref("echo").enqueue(2)).result(timeout=BACK_S)
    assert found is not None
    assert found.value == 2
    assert time.monotonic() - back < BACK_S + SLACK_S


async def test_a_wait_for_a_result_outlasts_a_restart(make_server: ServerFactory, make_fleet: FleetFactory) -> None:
    server = make_server(**DURABLE)
    fleet = make_fleet(server)
    worker = await asyncio.to_thread(fleet.worker)
    job = await fleet.app.ref("held").enqueue()
    await asyncio.to_thread(fleet.await_held, 1, 1)
    waiting = [asyncio.create_task(job.result(timeout=30)) for _ in range(3)]
    await fleet.app.queue_size()  # answered after the waits have been entered
    for _ in range(2):
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    fleet.open_gate()
    results = await asyncio.gather(*waiting)
    assert [(result.value, result.tries) for result in results] == [(worker.pid, 1)] * 3
    assert len(fleet.starts(job.id)) == 1


async def test_enqueues_whose_replies_get_lost_make_one_job_each(
    broken_server: Server, make_fleet: FleetFactory
) -> None:
    app = make_fleet(broken_server).app
    echo = app.ref("echo")
    ended = asyncio.Event()

    async def cut_connections() -> int:
        cuts = 0
        while not ended.is_set():
            cuts += int(broken_server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
            await asyncio.sleep(0.01)
        return cuts

    cutting = asyncio.create_task(cut_connections())
    for _ in range(40):
        jobs = await asyncio.gather(*(echo.enqueue(number) for number in range(250)))
        assert len({job.id for job in jobs}) == 250
    ended.set()
    assert await cutting >= 5
    assert await app.queue_size() == 40 * 250


def test_a_group_that_is_made_anew_brings_no_job_twice_to_the_worker_that_has_it(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(concurrency=12, sync_concurrency=4)
    fleet.worker()
    jobs = fleet.enqueue_many("held_in_thread", [()] * 6)
    fleet.await_held(6, 4)
    fleet.server.cli("XGROUP", "DESTROY", fleet.key("lane:default"), fleet.queue)
    jobs += fleet.enqueue_many("held_in_thread", [()] * 2)
    eventually(lambda: fleet.pending() == 8, "all has been delivered again")
    fleet.open_gate()
    assert [result.tries for result in fleet.results(jobs)] == [1] * 8
    assert [len(fleet.starts(job)) for job in jobs] == [1] * 8
    assert (fleet.pending(), fleet.server.cli("XLEN", fleet.key("lane:default"))) == (0, 0)


BROKEN = {
    "flushed": ["FLUSHALL"],
    "group destroyed": ["XGROUP", "DESTROY", "{lane}", "{queue}"],
    "group of returned work destroyed": ["XGROUP", "DESTROY", "{returned}", "{queue}"],
    "lane deleted": ["DEL", "{lane}"],
    "both streams deleted": ["DEL", "{lane}", "{returned}"],
    "lease deleted": ["DEL", "{workers}"],
    "scripts flushed": ["SCRIPT", "FLUSH"],
    "connections killed": ["CLIENT", "KILL", "TYPE", "normal"],
}


@pytest.fixture(scope="module")
def broken_server(server_kind: Kind) -> Iterator[Server]:
    """A server that these tests may break, one after the other."""
    with Server(server_kind) as own:
        yield own


@pytest.mark.parametrize("command", BROKEN.values(), ids=BROKEN)
def test_a_worker_goes_on_after_its_keys_are_gone(
    command: list[str], broken_server: Server, make_fleet: FleetFactory
) -> None:
    server = broken_server
    fleet = make_fleet(server)
    worker = fleet.worker()
    assert fleet.result(fleet.enqueue("echo", 1)).value == 1
    names = {"queue": fleet.queue, **{name: fleet.key(name) for name in ("workers",)}}
    names |= {"lane": fleet.key("lane:default"), "returned": fleet.key("returned:default")}
    server.cli(*(word.format(**names) for word in command))
    began = time.monotonic()
    for number in range(20):
        assert fleet.result(fleet.enqueue("echo", number), BACK_S).value == number
    assert time.monotonic() - began < BACK_S
    assert worker.process.poll() is None

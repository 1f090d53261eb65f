"""Arguments that are too large for a script are stored separately, which makes no difference to
those who enqueue and run jobs.
"""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from ardiq import Ardiq, current_task
from tests.conftest import FleetFactory
from tests.programs import eventually
from tests.servers import Server
from tests.toll import Toll

SIZES = [4_000, 5_000, 64_000, 1_000_000]
"""Around the bound, and well above it."""

LARGE = b"x" * 50_000


def bodies(server: Server, queue: str) -> list[bytes]:
    return list(server.client().scan_iter(f"ardiq:{{{queue}}}:body:*", count=1000))


@pytest.fixture
async def app(server: Server, queue_name: str) -> AsyncIterator[Ardiq]:
    app = Ardiq(server.url, queue_name, concurrency=8)

    @app.task(backoff_ms=1)
    async def size(value: bytes, fail: int = 0) -> int:
        run = current_task()
        if run is not None and run.tries <= fail:
            raise ValueError("not yet")
        return len(value)

    yield app
    app.stop()


async def worked(app: Ardiq) -> None:
    app.burst = True
    async with asyncio.timeout(60):
        await app.run()


async def test_they_arrive_whole_by_every_way_and_nothing_is_left_of_them(app: Ardiq, server: Server) -> None:
    size = app.ref("size")
    jobs = await app.enqueue_many([size.prepare(b"x" * length) for length in SIZES])
    jobs += await asyncio.gather(*(size.enqueue(b"x" * length) for length in SIZES))
    jobs += [await size.options(delay_ms=50).enqueue(b"x" * length) for length in SIZES]
    jobs += [await size.options(unique=True).enqueue(b"x" * length) for length in SIZES]
    jobs += [await size.options(task_id=f"n{length}").enqueue(b"x" * length, fail=2) for length in SIZES]
    jobs += [await asyncio.to_thread(size.enqueue_sync, b"x" * length) for length in SIZES]
    assert len(bodies(server, app.queue_name)) == 6 * 3
    await worked(app)
    results = [await job.result() for job in jobs]
    assert [result and result.value for result in results] == 6 * SIZES
    assert [result and result.tries for result in results] == [1] * 16 + [3] * 4 + [1] * 4
    assert bodies(server, app.queue_name) == []


async def test_they_are_shown_while_the_job_waits_and_when_it_is_dead(app: Ardiq, server: Server) -> None:
    waiting = await app.ref("size").enqueue(LARGE)
    later = await app.ref("size").options(delay_ms=60_000).enqueue(LARGE, fail=1)
    for job, kwargs in ((waiting, {}), (later, {"fail": 1})):
        info = await job.info()
        assert info is not None
        assert (info.args, info.kwargs) == ((LARGE,), kwargs)
    assert [one.args for one in await app.jobs("scheduled")] == [(LARGE,)]
    unreadable = Ardiq(server.url, app.queue_name, serializer=lambda _: LARGE, deserializer=lambda _: None)
    dead = await unreadable.ref("size").enqueue()
    running = asyncio.create_task(app.run())
    async with asyncio.timeout(30):
        while not (letters := await app.jobs("dead")):  # noqa: ASYNC110 - there is no event for a dead letter
            await asyncio.sleep(0.02)
    app.stop()
    await running
    (letter,) = letters
    assert letter.info.task_id == dead.id
    assert f"{len(LARGE)} bytes cannot be decoded" in letter.reason, "the bytes are kept, wherever they were"
    left = bodies(server, app.queue_name)
    assert len(left) == 1, "that of the scheduled job"
    assert later.id.encode() in left[0]


async def test_a_second_enqueue_of_an_unfinished_job_changes_nothing_of_its_arguments(
    app: Ardiq, server: Server
) -> None:
    size = app.ref("size")
    first = await size.options(task_id="one").enqueue(LARGE)
    assert await size.options(task_id="one").enqueue(LARGE + b"more") == first
    alike = await app.enqueue_many([size.options(task_id="two").prepare(LARGE + b"x" * n) for n in range(3)])
    assert len(set(alike)) == 1
    assert len(bodies(server, app.queue_name)) == 2
    await worked(app)
    results = [await job.result() for job in (first, alike[0])]
    assert [result and result.value for result in results] == [len(LARGE)] * 2
    assert bodies(server, app.queue_name) == []


async def test_without_its_arguments_a_job_is_a_dead_letter_and_the_others_run(app: Ardiq, server: Server) -> None:
    lost, other = await app.enqueue_many([app.ref("size").prepare(LARGE) for _ in range(2)])
    (body,) = [key for key in bodies(server, app.queue_name) if lost.id.encode() in key]
    server.cli("DEL", body)
    await worked(app)
    result = await lost.result()
    assert result is not None
    assert (result.success, result.value) == (False, "undecodable job: its arguments are missing from Redis")
    fine = await other.result()
    assert fine is not None
    assert fine.value == len(LARGE)


def test_they_survive_the_death_and_the_stop_of_their_worker(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=1000)
    held, echo = fleet.enqueue("held"), fleet.enqueue_many("echo", [(LARGE,) for _ in range(5)])
    first = fleet.worker(concurrency=1)
    fleet.await_held(pending=1, running=1)
    first.send(signal.SIGKILL)
    second = fleet.command_line("--grace", "0.1", concurrency=1)
    eventually(lambda: len(fleet.starts(held)) == 2, "the second worker has taken over")
    second.send(signal.SIGTERM)
    assert second.end() == 0, second.output
    fleet.open_gate()
    fleet.worker(concurrency=2)
    assert [result.value for result in fleet.results(echo)] == [LARGE] * 5
    eventually(lambda: bodies(fleet.server, fleet.queue) == [], "no body is left")


class Late(Toll):
    """A proxy on which the first body expires before the call that it belongs to arrives."""

    WAITS = b"$2\r\nPX\r\n$5\r\n"
    """The bytes before the time to live of a body, which has five digits."""
    late = False

    async def _requests(self, program: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        waiting = b""
        while data := await program.read(65536):
            waiting += data
            before, found, behind = waiting.partition(self.WAITS)
            if found and not self.late:
                if len(behind) < len(b"60000\r\n"):
                    continue
                self.late = True
                to_server.write(before + b"$2\r\nPX\r\n$1\r\n1\r\n")
                await to_server.drain()
                await asyncio.sleep(0.05)  # fifty times as long as the body has
                waiting = behind[len(b"60000\r\n") :]
            # A possible beginning of it is held until the rest arrives.
            kept = max(n for n in range(len(self.WAITS)) if waiting.endswith(self.WAITS[:n]))
            to_server.write(waiting[: len(waiting) - kept])
            waiting = waiting[len(waiting) - kept :]
            await to_server.drain()


async def test_a_body_that_ran_out_before_its_call_came_is_sent_again(
    app: Ardiq, server: Server, queue_name: str
) -> None:
    async with Late(server) as way:
        producer = Ardiq(way.url, queue_name, connect_timeout_s=10)
        job = await producer.ref("size").enqueue(LARGE)
        assert way.late
    await worked(app)
    result = await app.result(job.id)
    assert result is not None
    assert result.value == len(LARGE)

"""Ten thousand at once, and one app for many loops and threads."""

import asyncio
import gc
import threading

from ardiq import Ardiq
from tests.fleet import Fleet
from tests.programs import eventually
from tests.servers import Server
from tests.toll import Toll

MANY = 10_000


def calls(server: Server, command: str) -> int:
    statistics = server.cli("INFO", "commandstats")
    return int(statistics.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def connections(server: Server) -> int:
    return int(server.cli("INFO", "clients")["connected_clients"])


async def test_ten_thousand_enqueues_and_ten_thousand_waits_at_once(fleet: Fleet, server: Server) -> None:
    await asyncio.to_thread(fleet.worker, concurrency=100)
    echo = fleet.app.ref("echo")
    async with asyncio.timeout(60):
        jobs = await asyncio.gather(*(echo.enqueue(number) for number in range(MANY)))
        subscriptions, connected = calls(server, "subscribe"), connections(server)
        results = await asyncio.gather(*(job.result(timeout=60) for job in jobs))
        assert connections(server) <= connected + 1
    assert len({job.id for job in jobs}) == MANY
    assert [result.value for result in results] == list(range(MANY))
    # One subscription serves all waiting callers. It has a separate connection, which subscribes
    # when it is made.
    assert calls(server, "subscribe") - subscriptions <= 2


async def test_a_worker_is_sent_all_that_it_may_hold_however_large(fleet: Fleet) -> None:
    # More than the 32 MB after which a server closes a connection with subscriptions.
    largest = b"x" * (2**20 - 100)
    jobs = await fleet.app.enqueue_many([fleet.app.ref("echo").prepare(largest) for _ in range(40)])
    await asyncio.to_thread(fleet.worker, concurrency=20, prefetch=40)
    async with asyncio.timeout(60):
        results = await asyncio.gather(*(job.result(timeout=60) for job in jobs))
    assert all(result.value == largest for result in results)


async def test_a_result_of_forty_megabytes_arrives(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name)

    @app.task
    async def large() -> bytes:
        return bytes(40_000_000)

    running = asyncio.create_task(app.run())
    job = await large.enqueue()
    async with asyncio.timeout(60):
        result = await job.result(timeout=60)
        assert result is not None
        assert len(result.value) == 40_000_000
        assert await job.result() == result
    app.stop()
    await running


def test_an_app_that_is_dropped_ends_its_connection_while_others_live(server: Server, queue_name: str) -> None:
    kept = Ardiq(server.url, queue_name)
    assert kept.queue_size_sync() == 0
    before = connections(server)
    for number in range(5):
        assert Ardiq(server.url, f"{queue_name}-{number}").queue_size_sync() == 0
        gc.collect()
    eventually(lambda: connections(server) <= before, "the connections of the dropped apps are closed")
    assert kept.queue_size_sync() == 0


async def test_enqueues_of_one_moment_share_their_round_trips(fleet: Fleet, server: Server) -> None:
    echo = fleet.app.ref("echo")
    await echo.enqueue(0)
    before = calls(server, "evalsha")
    await asyncio.gather(*(echo.enqueue(number) for number in range(MANY)))
    assert calls(server, "evalsha") - before <= MANY / 100
    assert await fleet.app.queue_size() == MANY + 1


async def test_many_prepared_calls_are_sent_by_the_thousand(server: Server, queue_name: str) -> None:
    async with Toll(server) as toll:
        app = Ardiq(toll.url, queue_name, connect_timeout_s=60)
        echo = app.ref("echo")
        await echo.enqueue(0)
        toll.calls = 0
        jobs = await app.enqueue_many([echo.options(task_id=f"n{n}").prepare(n) for n in range(2500)])
        assert [job.id for job in jobs] == [f"n{n}" for n in range(2500)]
        assert toll.calls == 10  # each keeps the server for a millisecond, not for four
        # One round trip for a thousand: all are sent before any is answered.
        toll.calls = 0
        toll.answers.clear()
        bulk = asyncio.create_task(app.enqueue_many([echo.prepare(n) for n in range(1000)]))
        async with asyncio.timeout(30):
            while toll.calls < 4:  # noqa: ASYNC110 - another task counts them
                await asyncio.sleep(0.01)
        assert not bulk.done()
        toll.answers.set()
        assert len(await bulk) == 1000


def test_many_loops_and_threads_share_one_app_and_a_worker(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name)
    results: dict[str, list[int]] = {}
    loop_ready = threading.Event()

    @app.task
    async def double(number: int) -> int:
        return 2 * number

    async def work() -> None:
        running = asyncio.create_task(app.run())
        loop_ready.set()
        await running

    async def ask(name: str) -> None:
        for turn in range(3):
            jobs = await asyncio.gather(*(double.enqueue(turn + number) for number in range(20)))
            found = await asyncio.gather(*(job.result(timeout=30) for job in jobs))
            results.setdefault(name, []).extend(result.value for result in found)

    def ask_without_a_loop(name: str) -> None:
        for turn in range(3):
            jobs = [double.enqueue_sync(turn + number) for number in range(20)]
            found = [job.result_sync(30) for job in jobs]
            results.setdefault(name, []).extend(result.value for result in found)

    worker = threading.Thread(target=asyncio.run, args=(work(),))
    worker.start()
    loop_ready.wait()
    threads = [threading.Thread(target=lambda n=n: asyncio.run(ask(f"loop {n}"))) for n in range(6)]
    threads += [threading.Thread(target=ask_without_a_loop, args=(f"thread {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    app.stop()
    worker.join(60)
    assert not worker.is_alive()
    expected = [2 * (turn + number) for turn in range(3) for number in range(20)]
    assert results == {f"{kind} {n}": expected for kind in ("loop", "thread") for n in range(6)}

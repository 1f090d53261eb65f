"""After a drain, only what is meant to stay is left behind."""

import asyncio
import signal
from typing import Any

from ardiq import Ardiq, Job, Reject, Retry, current_task
from tests.conftest import FleetFactory
from tests.leftovers import keys, left_in, leftovers, streams_of
from tests.programs import eventually
from tests.servers import Server


async def test_a_drained_queue_has_no_keys_but_the_standing_ones(server: Server, queue_name: str) -> None:
    lanes = ["low", "high"]
    app = Ardiq(server.url, queue_name, lanes, concurrency=8, default_priority="low")

    @app.task(max_retries=2, backoff_ms=5)
    async def work(how: str) -> str:
        run = current_task()
        assert run is not None
        if how == "reject":
            raise Reject(how)
        if how == "fail" or (how == "flaky" and run.tries == 1):
            raise ValueError(how)
        if how == "retry" and run.tries == 1:
            raise Retry(delay_ms=0)
        return how

    @app.task
    def in_a_thread() -> None: ...

    @app.task(unique=True)
    async def alone(number: int) -> int:
        return number

    @app.task(result_ttl_ms=0)
    async def forgotten() -> None: ...

    jobs: list[Job[Any]] = [
        await work.options(priority=lane).enqueue(how) for lane in lanes for how in ("", "flaky", "retry", "fail")
    ]
    jobs += [await work.enqueue("reject"), await work.options(delay_ms=50).enqueue("later")]
    jobs += [await in_a_thread.enqueue() for _ in range(10)]
    jobs += [await alone.enqueue(number % 3) for number in range(9)]
    jobs += [await work.options(expire_ms=1).enqueue("too late")]
    gone: list[Job[Any]] = [await forgotten.enqueue() for _ in range(5)]
    waiting = asyncio.gather(*(job.result(timeout=20) for job in [*jobs, *gone]))
    await asyncio.sleep(0.01)  # more than the TTL of the last one, a millisecond
    async with asyncio.timeout(20):
        await app.run(burst=True)
        results = await waiting
    assert len(results) == len(jobs) + len(gone)
    assert None not in results

    streams = streams_of(queue_name, lanes)
    records = {f"job:{job.id}" for job in [*jobs, *gone]}
    assert keys(server, queue_name) == {"lanes", *streams, *records}
    assert {left_in(server, stream) == (0, [(0, 0)]) for stream in streams.values()} == {True}
    assert leftovers(server, queue_name) == []
    # Records expire: results after their TTL, and tombstones soon.
    lifetimes = [server.cli("PTTL", f"ardiq:{{{queue_name}}}:{record}") for record in records]
    assert all(0 < lifetime <= app.result_ttl_ms for lifetime in lifetimes)


def test_workers_that_were_stopped_or_killed_leave_no_consumer_behind(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=600, concurrency=2)
    killed, stopped = fleet.worker(), fleet.command_line()
    stopped.await_output(" serves queue ")
    fleet.enqueue_many("held", [()] * 6)
    eventually(lambda: len(fleet.journal) == 4, "both workers run jobs")
    killed.send(signal.SIGKILL)
    stopped.send(signal.SIGTERM)
    last = fleet.command_line("--burst")
    fleet.open_gate()
    assert stopped.end() == 0, stopped.output
    assert last.end() == 0, last.output

    found = {key for key in keys(fleet.server, fleet.queue) if not key.startswith("job:")}
    assert found == {"lanes", *streams_of(fleet.queue, ["default"])}
    assert leftovers(fleet.server, fleet.queue) == []


def test_each_kind_of_leftover_is_found(server: Server, queue_name: str) -> None:
    base = f"ardiq:{{{queue_name}}}:"
    lane = f"{base}lane:default"
    server.cli("XGROUP", "CREATE", lane, queue_name, "0", "MKSTREAM")
    server.cli("SADD", f"{base}lanes", "default")
    server.cli("SET", f"{base}job:finished", "R", "PX", 60_000)
    assert leftovers(server, queue_name) == []
    server.cli("SET", f"{base}job:unfinished", "q")
    server.cli("SET", f"{base}body:orphan:00", "x")
    server.cli("HSET", f"{base}running", "job", "1-1")
    server.cli("XADD", lane, "*", "label", "envelope")
    server.cli("XREADGROUP", "GROUP", queue_name, "unknown", "STREAMS", lane, ">")
    found = [line.partition(", idle")[0] for line in leftovers(server, queue_name)]
    assert found == [
        "body:orphan:00 (string) never expires",
        "job:unfinished (string) never expires",
        "lane:default has 1 entries",
        "lane:default has the consumer unknown with 1 pending deliveries",
        "running (hash) never expires",
    ]

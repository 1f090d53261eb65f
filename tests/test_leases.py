"""The purpose of a lease: the jobs of dead workers run again and those of living workers do not,
whatever happened to the server.
"""

import signal
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.conftest import FleetFactory, ServerFactory
from tests.fleet import Fleet
from tests.programs import Program, eventually
from tests.servers import Server

LEASE_MS = 1000
AWAY_S = 3.5 * LEASE_MS / 1000
DURABLE = {"append_only": True, "options": {"appendfsync": "always"}}


def pass_time(seconds: float) -> None:
    """An absence that is to outlast leases takes its time."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= end, "the time has passed")


def restart(server: Server, meanwhile: Callable[[], object]) -> None:
    server.kill()
    pass_time(AWAY_S / 2)
    meanwhile()
    pass_time(AWAY_S / 2)
    server.start()


def freeze(server: Server, meanwhile: Callable[[], object]) -> None:
    server.freeze()
    try:
        pass_time(AWAY_S / 2)
        meanwhile()
        pass_time(AWAY_S / 2)
    finally:
        server.thaw()


def served_everything(fleet: Fleet, jobs: list[str], workers: set[int]) -> None:
    """Check that every job ran once, in a worker that kept its id."""
    fleet.open_gate()
    results = fleet.results(jobs)
    assert [(result.success, result.tries) for result in results] == [(True, 1)] * len(jobs)
    assert {result.value for result in results} <= workers
    assert [len(fleet.starts(job)) for job in jobs] == [1] * len(jobs)


@pytest.mark.parametrize("absence", [restart, freeze])
def test_an_absence_of_the_server_costs_no_worker_its_work(
    absence: Callable[[Server, Callable[[], object]], None], make_server: ServerFactory, make_fleet: FleetFactory
) -> None:
    server = make_server(**DURABLE)
    fleet = make_fleet(server, idle_timeout_ms=LEASE_MS, concurrency=4)
    workers = [fleet.worker() for _ in range(3)]
    jobs = fleet.enqueue_many("held", [()] * 12)
    fleet.await_held(12, 12)
    for _ in range(2):
        # A worker that starts while the server is unavailable has no lease, and does not know of
        # any.
        absence(server, lambda: workers.append(fleet.start("-m", "tests.actors.worker", connect_timeout_s=20)))
        eventually(
            lambda: fleet.signed_on() == {str(worker.pid) for worker in workers},
            "all workers, the new one too, are here",
        )
        # The workers have had time to look for dead workers several times.
        pass_time(2 * LEASE_MS / 1000)
    assert "took over" not in "".join(worker.output for worker in workers)
    served_everything(fleet, jobs, {worker.pid for worker in workers})


def test_a_worker_that_died_while_the_server_was_away_is_found_dead(
    make_server: ServerFactory, make_fleet: FleetFactory
) -> None:
    server = make_server(**DURABLE)
    fleet = make_fleet(server, idle_timeout_ms=LEASE_MS, concurrency=2)
    victim = fleet.worker()
    jobs = fleet.enqueue_many("held", [()] * 2)
    fleet.await_held(2, 2)
    heir = fleet.worker()
    restart(server, lambda: victim.send(signal.SIGKILL))
    fleet.open_gate()
    assert {result.value for result in fleet.results(jobs)} == {heir.pid}


def test_a_dead_worker_alone_is_found_by_the_next_one_within_its_lease(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=1)
    victim = fleet.worker()
    job = fleet.enqueue("held")
    fleet.await_held(1, 1)
    victim.send(signal.SIGKILL)
    victim.end()
    # No worker was there for a while, but the server was.
    pass_time(2 * LEASE_MS / 1000)
    fleet.open_gate()
    began = time.monotonic()
    heir = fleet.worker()
    assert fleet.result(job).value == heir.pid
    assert time.monotonic() - began < LEASE_MS / 1000 + 2


LOST = {
    "all leases deleted": ["DEL"],
    "all leases replaced": ["SET", "x"],
}


@pytest.mark.parametrize("command", LOST.values(), ids=LOST)
def test_workers_whose_leases_were_removed_keep_their_work(command: list[str], make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=4 * LEASE_MS, concurrency=4)
    workers = [fleet.worker() for _ in range(3)]
    jobs = fleet.enqueue_many("held", [()] * 12)
    fleet.await_held(12, 12)
    before = fleet.server.cli("ZRANGE", fleet.key("workers"), 0, -1)
    fleet.server.cli(command[0], fleet.key("workers"), *command[1:])
    if command == LOST["all leases deleted"]:
        workers.append(fleet.worker())  # which looks for damage when it starts
    fleet.enqueue_many("held", [()] * 3)
    eventually(
        lambda: (
            fleet.server.cli("TYPE", fleet.key("workers")) == b"zset"
            and set(fleet.server.cli("ZRANGE", fleet.key("workers"), 0, -1)) >= set(before)
        ),
        "all have signed on again",
    )
    # Each has renewed its lease, and looked for dead workers several times.
    pass_time(2 * LEASE_MS / 1000)
    assert not any(words in worker.output for worker in workers for words in ("took over", " lost its lease ("))
    served_everything(fleet, jobs, {worker.pid for worker in workers})


def has_started(fleet: Fleet, job: str, times: int) -> bool:
    return len(fleet.starts(job)) == times


def test_lost_leases_of_living_workers_are_no_deaths(make_fleet: FleetFactory) -> None:
    # A worker that comes back still runs the jobs that were taken over from it, so it needs more
    # slots.
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=8)
    job = fleet.enqueue("held")
    holder = fleet.worker()
    other: Program | None = None

    def survivals() -> int:
        return sum(1 for _ in fleet.server.client().scan_iter(fleet.key("survivals:*")))

    for starts in range(1, 5):
        eventually(partial(has_started, fleet, job, starts), f"start {starts}")
        eventually(lambda: fleet.recorded() == 1, "the start is on record")
        if other is None:
            other = fleet.worker()
        holder.send(signal.SIGSTOP)
        eventually(partial(has_started, fleet, job, starts + 1), "the other worker has taken over")
        holder.send(signal.SIGCONT)
        holder.await_output(" lost its lease (", times=(starts + 1) // 2)
        eventually(survivals, "the server knows that it lives")
        holder, other = other, holder
    fleet.open_gate()
    result = fleet.result(job)
    assert (result.success, result.tries) == (True, 5)


def test_a_delivery_that_the_worker_never_saw_is_found_by_a_renewal(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS)
    worker = fleet.worker()
    assert fleet.result(fleet.enqueue("echo", 1)).value == 1
    (identity,) = (name.decode() for name in fleet.server.cli("ZRANGE", fleet.key("workers"), 0, -1))
    job = fleet.app.ref("echo").options(delay_ms=3_600_000).enqueue_sync(7).id
    deliver_unseen(fleet, job, identity)
    result = fleet.result(job, LEASE_MS / 1000 + 2)
    assert (result.value, result.tries, result.worker_id) == (7, 1, identity)
    worker.await_output("whose delivery was lost")


def deliver_unseen(fleet: Fleet, job: str, worker: str) -> None:
    """Deliver a scheduled job to a worker that is not told, as when the answer to its read is
    lost.
    """
    lane, client = fleet.key("lane:default"), fleet.server.client()
    record = client.get(fleet.key(f"job:{job}"))
    assert isinstance(record, bytes)
    nonce, (header, envelope) = record[1:9], divide(record[10 + record[9] :])
    entry = f"{int(client.time()[0]) * 1000 + 60_000}-0"
    # In one step: the worker's own read, which waits for the next job, must not be served first.
    fleet.server.cli(
        *("EVAL", DELIVER, 3, lane, fleet.key(f"job:{job}"), fleet.key("due")),
        *(entry, header + job.encode(), envelope, b"q" + nonce + f"{entry} lane:default".encode()),
        *(job, fleet.queue, worker),
    )


DELIVER = """
redis.call('XADD', KEYS[1], ARGV[1], ARGV[2], ARGV[3])
redis.call('SET', KEYS[2], ARGV[4])
redis.call('ZREM', KEYS[3], ARGV[5])
return #redis.call('XREADGROUP', 'GROUP', ARGV[6], ARGV[7], 'COUNT', 1, 'STREAMS', KEYS[1], '>')
"""


def divide(value: bytes) -> tuple[bytes, bytes]:
    return value[:13], value[13:]


def all_are_recorded(fleet: Fleet, count: int, workers: list[Program]) -> bool:
    runs = [run.decode().split()[1].split(":")[1] for run in fleet.server.cli("HVALS", fleet.key("running"))]
    return len(runs) == count and set(runs) == {str(worker.pid) for worker in workers}


def test_after_crashes_jobs_that_were_only_running_do_not_block_others(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=16)
    jobs = fleet.enqueue_many("held", [()] * 32)
    for _ in range(2):
        pair = [fleet.worker() for _ in range(2)]
        eventually(partial(all_are_recorded, fleet, 32, pair), "all of them are on record as running in these two")
        for worker in pair:
            worker.send(signal.SIGKILL)
            worker.end()
    survivors = [fleet.worker() for _ in range(2)]
    began = time.monotonic()
    small = fleet.enqueue_many("echo", [(number,) for number in range(10)])
    assert [result.value for result in fleet.results(small)] == list(range(10))
    assert time.monotonic() - began < 10
    fleet.open_gate()
    results = fleet.results(jobs)
    assert all(result.success for result in results)
    assert {result.value for result in results} <= {worker.pid for worker in survivors}

"""Workflows while their workers are killed: every job ends, and a join counts each member once."""

import signal
from collections import Counter

import ardiq
from tests.conftest import FleetFactory, Measured
from tests.fleet import Fleet
from tests.leftovers import keys
from tests.monitor import Monitor
from tests.programs import eventually

LEASE_MS = 1000
SLOW_US = 5_000
"""The server logs calls that take longer, in microseconds."""


def kill_three_times(fleet: Fleet, starts: tuple[int, int, int]) -> None:
    """Kill a second worker, and start another, each time when so many runs have started."""

    def await_starts(count: int) -> None:
        eventually(lambda: len(fleet.journal) >= count, "the members run")

    victim = fleet.worker()
    for count in starts:
        await_starts(count)
        victim.send(signal.SIGKILL)
        victim = fleet.worker()


def test_a_join_of_thousands_runs_once_although_a_worker_is_killed_three_times(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=8, prefetch=64)
    brief, add_up = fleet.app.ref("brief"), fleet.app.ref("add_up")
    fleet.worker()
    with Monitor(fleet.server) as monitor:
        pending = ardiq.map(brief, range(3000)).then(add_up)
        job = pending.enqueue_sync()
        kill_three_times(fleet, (300, 900, 1500))
        result = fleet.result(job.id)
        assert (result.success, result.value) == (True, sum(range(3000)))
        commits = Counter(monitor.commits(fleet.key("job:")))
    assert len([note for note in fleet.starts(job.id) if note.tries == 1]) == 1
    # The record of a waiting job is written once more, as a result.
    assert commits[job.id] == 1
    of_graphs = ("children:", "parents:", "inputs:", "output:", "linked", "releasing", "due")
    assert [key for key in keys(fleet.server, fleet.queue) if key.startswith(of_graphs)] == []


def test_a_join_of_ten_thousand_keeps_no_call_long(make_fleet: FleetFactory, measured: Measured) -> None:
    members = 10_000
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=8, prefetch=64)
    fleet.server.cli("CONFIG", "SET", "slowlog-log-slower-than", SLOW_US)
    job = ardiq.map(fleet.app.ref("brief"), range(members)).then(fleet.app.ref("add_up")).enqueue_sync()
    fleet.worker()
    kill_three_times(fleet, (1_000, 3_000, 5_000))
    result = fleet.result(job.id)
    assert (result.success, result.value) == (True, sum(range(members)))
    assert [note.tries for note in fleet.starts(job.id)] == [1]
    slow = [entry for entry in fleet.server.client().slowlog_get(128) if entry["command"].startswith(b"EVALSHA")]
    measured(f"script calls of more than {SLOW_US / 1000:g} ms", len(slow))
    measured("ms of the longest script call", max((entry["duration"] / 1000 for entry in slow), default=0.0))


def test_the_last_worker_dies_before_it_has_told_the_children(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=1, prefetch=1)
    held, echo = fleet.app.ref("held"), fleet.app.ref("echo")
    parent = held.enqueue()
    children = [parent.then(echo) for _ in range(5)]
    last = children[0].then(echo).finally_(echo, 7)
    job = last.enqueue_sync()
    victim = fleet.worker()
    fleet.await_held(1, 1)
    victim.send(signal.SIGKILL)
    heir = fleet.worker()
    eventually(lambda: len(fleet.starts(parent.id)) == 2, "the other worker has started the parent")
    fleet.open_gate()
    assert fleet.result(job.id).value == 7
    assert {fleet.result(child.id).value for child in children} == {heir.pid}

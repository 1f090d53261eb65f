"""Workers that die or freeze, or seem to: their jobs are done anyway, and once."""

import signal
import time

from tests.conftest import FleetFactory, Measured
from tests.fleet import Fleet
from tests.monitor import Monitor
from tests.programs import eventually

LEASE_MS = 1000


def server_ms(fleet: Fleet) -> float:
    seconds, micros = fleet.server.client().time()
    return seconds * 1000 + micros / 1000


def test_a_killed_worker_leaves_a_thousand_jobs_and_none_is_lost_or_done_twice(
    make_fleet: FleetFactory, measured: Measured
) -> None:
    lease_ms, concurrency = 2000, 16
    fleet = make_fleet(idle_timeout_ms=lease_ms, concurrency=1000, sync_concurrency=concurrency)
    with Monitor(fleet.server) as monitor:
        jobs = fleet.enqueue_many("held_in_thread", [()] * 1000)
        victim = fleet.worker()
        fleet.await_held(1000, concurrency)
        running = {note.job for note in fleet.journal}
        rescuer = fleet.worker()
        killed_ms = server_ms(fleet)
        victim.send(signal.SIGKILL)
        fleet.open_gate()
        results = fleet.results(jobs)

    assert {result.value for result in results} == {rescuer.pid}
    assert {result.task_id: result.tries for result in results} == {job: 1 + (job in running) for job in jobs}
    assert sorted(monitor.commits(fleet.key("job:"))) == sorted(jobs)
    taken_over = monitor.named("XADD", fleet.key("returned:default"))
    # On a busy machine the rescuer may return some of them to the queue.
    assert len(taken_over) >= 1000
    waited_ms = taken_over[999].at_ms - killed_ms
    measured(f"ms from a kill to the last job taken over, lease {lease_ms} ms", waited_ms)
    assert waited_ms <= lease_ms + 2000
    assert f"took over 1000 jobs ({concurrency} started)" in rescuer.output


def test_a_frozen_worker_that_comes_back_changes_nothing(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=2, sync_concurrency=1)
    zombie = fleet.worker()
    with Monitor(fleet.server) as monitor:
        jobs = fleet.enqueue_many("held_in_thread", [()] * 2)
        fleet.await_held(2, 1)
        zombie.send(signal.SIGSTOP)
        heir = fleet.worker()
        eventually(lambda: len(fleet.starts(jobs[0])) == 2, "the other worker has started the job")
        fleet.open_gate()
        assert [result.value for result in fleet.results(jobs)] == [heir.pid] * 2
        zombie.send(signal.SIGCONT)
        zombie.await_output(f"the outcome of job {jobs[0]} was refused")
        zombie.await_output(" lost its lease (")
        # It has found its way back: it serves under a new lease.
        eventually(lambda: str(zombie.pid) in fleet.signed_on(), "the zombie works again")

    assert sorted(monitor.commits(fleet.key("job:"))) == sorted(jobs)
    results = fleet.results(jobs)
    assert [(result.value, result.tries) for result in results] == [(heir.pid, 2), (heir.pid, 1)]
    assert all(f":{heir.pid}:" in result.worker_id for result in results)
    # What it had not started it has dropped.
    assert [note.pid for note in fleet.starts(jobs[1])] == [heir.pid]
    heir.send(signal.SIGKILL)
    assert fleet.result(fleet.enqueue("held_in_thread")).value == zombie.pid


def test_a_unique_call_is_held_through_the_death_of_its_worker(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=1, prefetch=2)
    once = fleet.app.ref("held").options(unique=True)
    victim = fleet.worker()
    job = once.enqueue_sync()
    fleet.await_held(1, 1)
    victim.send(signal.SIGKILL)
    assert once.enqueue_sync() == job
    heir = fleet.worker()
    eventually(lambda: len(fleet.starts(job.id)) == 2, "the other worker has started the job")
    assert once.enqueue_sync() == job
    fleet.open_gate()
    assert (fleet.result(job.id).value, fleet.result(job.id).tries) == (heir.pid, 2)
    assert once.enqueue_sync() != job


def test_a_coroutine_that_blocks_the_loop_is_not_run_twice(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=1, prefetch=2)
    busy = fleet.worker()
    jobs = fleet.enqueue_many("compute", [(3 * LEASE_MS / 1000,), (0.0,)])
    fleet.await_held(1, 1)
    idle = fleet.worker()
    results = fleet.results(jobs)
    assert [(result.value, result.tries) for result in results] == [(busy.pid, 1), (idle.pid, 1)]
    assert [len(fleet.starts(job)) for job in jobs] == [1, 1]
    assert "took over" not in idle.output


def test_a_job_that_kills_its_process_is_dead_lettered_and_takes_no_other_along(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS, concurrency=8, prefetch=32)
    innocents = fleet.enqueue_many("nap", [(0.3,)] * 4)
    killer = fleet.enqueue("die", 0.1)
    innocents += fleet.enqueue_many("nap", [(0.05,)] * 40)
    began = time.monotonic()
    supervisor = fleet.command_line("--workers", "2")

    dead = fleet.result(killer)
    assert dead.success is False
    assert "poison" in dead.value
    assert [note.tries for note in fleet.starts(killer)] == [1, 2, 3]
    results = fleet.results(innocents)
    assert all(result.success for result in results)
    assert max(result.tries for result in results) <= 3
    assert fleet.server.cli("XLEN", fleet.key("dead")) == 1
    assert fleet.result(fleet.enqueue("echo", 5)).value == 5
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == 0, supervisor.output
    assert time.monotonic() - began < 30

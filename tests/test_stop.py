"""Stopping a worker by signal, as a deployment does."""

import signal
from typing import Any

from tests.conftest import FleetFactory, Measured
from tests.monitor import Monitor
from tests.programs import eventually

PROMPT_MS = 1000
"""Far above what it takes (100 ms are promised), far below every pause of the engine that could
stand in for a wake-up.
"""


def test_sigterm_under_load_returns_unstarted_jobs_at_once(make_fleet: FleetFactory, measured: Measured) -> None:
    fleet = make_fleet(concurrency=200)
    stopping = fleet.command_line(sync_concurrency=4)
    stopping.await_output(" serves queue ")
    jobs = fleet.enqueue_many("held_in_thread", [()] * 200)
    fleet.await_held(200, 4)
    running = {note.job for note in fleet.journal}
    other = fleet.worker()
    with Monitor(fleet.server) as monitor:
        monitor_start = fleet.server.client().time()
        stopping.send(signal.SIGTERM)
        eventually(lambda: len(fleet.journal) == 200, "the other worker has started the rest")
        assert stopping.process.poll() is None
        fleet.open_gate()
        assert stopping.end() == 0, stopping.output
        results = fleet.results(jobs)

    assert {result.tries for result in results} == {1}
    assert {result.task_id for result in results if result.value == stopping.pid} == running
    assert {result.value for result in results} == {stopping.pid, other.pid}
    returned = monitor.named("XADD", fleet.key("returned:default"))
    assert len(returned) == 196
    asked_ms = monitor_start[0] * 1000 + monitor_start[1] / 1000
    elsewhere = [result.start for result in results if result.task_id not in running]
    first_ms = min(elsewhere) - returned[0].at_ms
    measured("ms from SIGTERM to the return of the last job", returned[-1].at_ms - asked_ms)
    measured("ms from the return to the first start elsewhere", first_ms)
    measured("ms from the return to the last start elsewhere", max(elsewhere) - returned[-1].at_ms)
    assert returned[-1].at_ms - asked_ms < PROMPT_MS
    assert first_ms < PROMPT_MS
    assert sorted(monitor.commits(fleet.key("job:"))) == sorted(jobs)


def test_a_stopping_worker_takes_nothing_new(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(concurrency=4, shutdown_grace_s=600)
    stopping = fleet.command_line()
    running = fleet.enqueue("held")
    fleet.await_held(1, 1)
    stopping.send(signal.SIGTERM)
    stopping.await_output("1 running task has 600 s to finish")
    other = fleet.worker()
    for number in range(20):
        # One after the other, so that both workers have the same chance to get each job.
        assert f":{other.pid}:" in fleet.result(fleet.enqueue("echo", number)).worker_id
    assert stopping.process.poll() is None
    fleet.open_gate()
    assert stopping.end() == 0, stopping.output
    assert fleet.result(running).value == stopping.pid


def test_a_second_sigterm_skips_the_grace_period_and_spends_no_try(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(concurrency=8, sync_concurrency=4, shutdown_grace_s=600)
    stopping = fleet.command_line()
    stopping.await_output(" serves queue ")
    jobs = fleet.enqueue_many("held_in_thread", [()] * 8)
    fleet.await_held(8, 4)
    stopping.send(signal.SIGTERM)
    stopping.await_output("4 running tasks have 600 s to finish")
    assert stopping.process.poll() is None
    stopping.send(signal.SIGTERM)
    assert stopping.end(5) == 0, stopping.output
    assert (fleet.pending(), fleet.recorded(), fleet.signed_on()) == (0, 0, set())

    fleet.open_gate()
    other = fleet.worker()
    assert [(result.value, result.tries) for result in fleet.results(jobs)] == [(other.pid, 1)] * 8


def test_the_lease_is_renewed_until_the_last_task_has_ended(make_fleet: FleetFactory) -> None:
    lease_ms = 600
    fleet = make_fleet(idle_timeout_ms=lease_ms, concurrency=1, shutdown_grace_s=600)
    stopping = fleet.command_line()
    job = fleet.enqueue("held")
    fleet.await_held(1, 1)
    other = fleet.worker()
    stopping.send(signal.SIGTERM)
    stopping.await_output("1 running task has 600 s to finish")

    def deadline_ms() -> float:
        leases: Any = fleet.server.client().zrange(fleet.key("workers"), 0, -1, withscores=True)
        return float({worker.decode().split(":")[1]: end for worker, end in leases}.get(str(stopping.pid), 0))

    asked_ms = deadline_ms()
    eventually(lambda: deadline_ms() > asked_ms + 4 * lease_ms, "the lease outlasts several of its terms")
    fleet.open_gate()
    assert stopping.end() == 0, stopping.output
    found = fleet.result(job)
    assert (found.value, found.tries) == (stopping.pid, 1)
    assert [note.pid for note in fleet.starts(job)] == [stopping.pid]
    assert "took over" not in other.output


def test_the_grace_period_ends_and_what_still_runs_goes_on_elsewhere(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(concurrency=2)
    stopping = fleet.command_line("--grace", "0.2")
    jobs = fleet.enqueue_many("held", [()] * 2)
    fleet.await_held(2, 2)
    other = fleet.worker()
    stopping.send(signal.SIGTERM)
    assert stopping.end(5) == 0, stopping.output
    fleet.open_gate()
    assert [(result.value, result.tries) for result in fleet.results(jobs)] == [(other.pid, 1)] * 2

"""Checkpoints outlive the processes that saved them, and belong to the rightful owner of the
job.
"""

import signal

from ardiq import Job, Progress
from tests.conftest import FleetFactory
from tests.fleet import Fleet
from tests.leftovers import keys
from tests.programs import eventually

LEASE_MS = 1000


def progress(fleet: Fleet, job: str) -> Progress | None:
    return Job[object](fleet.app, job).progress_sync()


def test_a_killed_worker_leaves_its_checkpoint_to_the_next_one(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS)
    job = fleet.enqueue("resume")
    pids: list[int] = []
    worker = fleet.worker()
    for _ in range(2):
        pids.append(worker.pid)
        eventually(lambda: len(fleet.starts(job)) == len(pids), "it runs")
        worker.send(signal.SIGKILL)
        worker = fleet.worker()
    pids.append(worker.pid)
    eventually(lambda: len(fleet.starts(job)) == len(pids), "it runs again")
    found = progress(fleet, job)
    assert found is not None
    fleet.open_gate()
    assert fleet.result(job).value == pids
    assert [key for key in keys(fleet.server, fleet.queue) if key.startswith("notes:")] == []


def test_a_frozen_worker_that_comes_back_cannot_overwrite_the_checkpoint(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=LEASE_MS)
    zombie = fleet.worker()
    job = fleet.enqueue("resume")
    eventually(lambda: len(fleet.starts(job)) == 1, "it runs")
    zombie.send(signal.SIGSTOP)
    heir = fleet.worker()
    eventually(lambda: len(fleet.starts(job)) == 2, "another worker has it")
    zombie.send(signal.SIGCONT)
    zombie.await_output(" lost its lease (")
    fleet.open_gate()
    zombie.await_output("StaleRunError")
    assert fleet.result(job).value == [zombie.pid, heir.pid]
    assert [key for key in keys(fleet.server, fleet.queue) if key.startswith("notes:")] == []

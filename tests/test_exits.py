"""Programs that end with work in flight: no crash and no hang, whatever they were doing."""

import time

import pytest

from tests.actors import EXITS
from tests.conftest import FleetFactory
from tests.fleet import Fleet

LIMIT_S = 5.0
REPEATED = 14
"""Of each kind, twice; with the fresh processes two hundred in all."""

DISASTERS = ("Fatal Python error", "panicked at", "Segmentation fault")


@pytest.mark.parametrize("end", EXITS)
def test_a_program_ends_with_work_in_flight(end: str, make_fleet: FleetFactory) -> None:
    # Two programs that end again and again in forked children, and then one that is started for it;
    # each on a queue of its own, since the jobs that a worker holds at such an end wait for its
    # lease to run out.
    many = [make_fleet().start("-m", "tests.actors.exits", end, str(REPEATED)) for _ in range(2)]
    for program in many:
        assert program.end() == 0, program.output
    began = time.monotonic()
    one = make_fleet().start("-m", "tests.actors.exits", end)
    assert one.end(LIMIT_S) == EXITS[end], one.output
    assert time.monotonic() - began < LIMIT_S
    outputs = [program.output for program in (one, *many)]
    assert not [said for said in outputs if any(disaster in said for disaster in DISASTERS)]


def test_jobs_of_workers_that_just_ended_are_done_by_others(make_fleet: FleetFactory) -> None:
    fleet = make_fleet(idle_timeout_ms=1000)
    program = fleet.start("-m", "tests.actors.exits", "worker_in_open_loop")
    assert program.end(LIMIT_S) == 0, program.output
    left = {note.job for note in fleet.journal} - {note.job for note in fleet.journal if note.event == "end"}
    fleet.open_gate()
    other = fleet.worker()
    held = [result for result in fleet.results(left) if result.fn_name == "held"]
    assert [result.value for result in held] == [other.pid] * 4


def test_a_task_may_fork_and_its_child_enqueues_over_a_connection_of_its_own(fleet: Fleet) -> None:
    fleet.worker()
    jobs = fleet.enqueue_many("fork_and_enqueue", [(number,) for number in range(8)])
    children = [fleet.result(job) for job in jobs]
    assert all(child.success for child in children), children
    assert [fleet.result(child.value).value for child in children] == list(range(8))

"""The checker of chaos runs finds faults that are planted in journals, and finds none in the same
journals without them.
"""

from typing import Any

import pytest

from tests.chaos.checker import Evidence, Final, Verdict, check
from tests.chaos.journal import Note

LEASE_S = 2.0
JOB = "job-1"
ONE, TWO, THREE = 101, 102, 103


def worker(pid: int, incarnation: int = 1) -> str:
    return f"host:{pid}:ab" + (f"~{incarnation}" if incarnation > 1 else "")


def accept(at: float, job: str = JOB, value: int = 7) -> Note:
    return Note(at, "accept", 1, job, detail={"value": value})


def start(at: float, pid: int, tries: int = 1, job: str = JOB) -> Note:
    return Note(at, "start", pid, job, tries, worker(pid))


def end(at: float, pid: int, tries: int = 1, job: str = JOB) -> Note:
    return Note(at, "end", pid, job, tries, worker(pid))


def told(at: float, by: int, tries: int = 1, value: object = 7) -> Note:
    result = {"success": True, "value": value, "tries": tries, "worker": worker(by)}
    return Note(at, "told", 1, JOB, detail={"result": result})


def signal(at: float, pid: int, name: str) -> Note:
    return Note(at, "signal", pid, detail={"place": "worker-0", "name": name})


def ended(at: float, pid: int, code: int, place: str = "worker-0") -> Note:
    return Note(at, "exit", pid, detail={"place": place, "code": code})


def fault(kind: str, began: float, ended: float, pid: int = 0) -> Note:
    return Note(ended, "fault", pid, detail={"kind": kind, "target": "", "began": began, "ended": ended})


def stall(began: float, ended: float, pid: int) -> Note:
    return Note(ended, "stall", pid, detail={"began": began, "ended": ended})


def final(by: int = ONE, tries: int = 1, **changes: Any) -> Final:
    return Final(**{"success": True, "value": 7, "tries": tries, "worker": worker(by), **changes})


def verdict(*notes: Note, result: Final | None = None, **changes: Any) -> Verdict:
    """The verdict on one job, which was stored and committed once unless `changes` say
    otherwise.
    """
    evidence: dict[str, Any] = {
        "notes": list(notes),
        "results": {JOB: result},
        "stored": {JOB},
        "commits": {JOB: ["SET R"]} if result else {},
        "lease_s": LEASE_S,
        **changes,
    }
    return check(Evidence(**evidence))


def kinds(found: Verdict) -> list[str]:
    return [finding.kind for finding in found.findings]


ONCE = (accept(0), start(1, ONE), end(2, ONE))
AGAIN = (accept(0), start(1, ONE), start(6, TWO, 2), end(7, TWO, 2))


def test_a_job_that_runs_once_is_in_order() -> None:
    found = verdict(*ONCE, told(3, ONE), result=final())
    assert kinds(found) == []
    assert (found.accepted, found.told, found.starts, found.extra.total()) == (1, 1, 1, 0)


def test_an_accepted_job_without_a_result_is_lost() -> None:
    found = verdict(accept(0), states={JOB: "running"})
    assert kinds(found) == ["lost job"]
    assert "running" in found.findings[0].text


def test_a_stored_job_whose_caller_heard_nothing_is_lost_without_a_result() -> None:
    found = verdict(Note(0, "ask", 1, JOB), ended(1, 1, -9, "producer-0"), signal(0.5, 1, "SIGKILL"))
    assert kinds(found) == ["lost job"]


def test_a_call_that_was_refused_and_never_stored_is_no_job() -> None:
    notes = [Note(0, "ask", 1, JOB), Note(1, "refuse", 1, JOB, detail={"error": "no Redis"})]
    found = verdict(*notes, stored=set())
    assert (kinds(found), found.refused) == ([], 1)


def test_two_written_results_are_a_second_commit() -> None:
    found = verdict(*ONCE, result=final(), commits={JOB: ["SET R 1", "SET R 2"]})
    assert kinds(found) == ["second commit"]


@pytest.mark.parametrize("said", [told(3, TWO), told(3, ONE, tries=2), told(3, ONE, value=8)])
def test_a_caller_that_was_told_something_else_shows_a_second_commit(said: Note) -> None:
    assert kinds(verdict(*ONCE, said, result=final())) == ["second commit"]


EXPLANATIONS = {
    "killed": [signal(2, ONE, "SIGKILL"), ended(2.1, ONE, -9)],
    "stopped": [signal(2, ONE, "SIGTERM"), ended(6.5, ONE, 0)],
    "ended by itself": [ended(2, ONE, 3)],
    "frozen past its lease": [fault("worker-freeze", 0.5, 4.5, ONE), stall(0.5, 4.5, ONE)],
    "cut off past its lease": [fault("worker-partition", 2, 6.1, ONE)],
    "asked for by the task": [Note(2, "raise", ONE, JOB, 1, worker(ONE))],
    "machine had no time for it": [stall(1.5, 5, ONE)],
}


@pytest.mark.parametrize("why", EXPLANATIONS)
def test_a_second_start_is_explained_by_what_befell_the_first_worker(why: str) -> None:
    found = verdict(*AGAIN, *EXPLANATIONS[why], result=final(TWO, 2))
    assert kinds(found) == []
    assert found.extra == {why: 1}


NO_EXPLANATIONS = {
    "nothing": [],
    "server away": [fault("server-outage", 2, 5.5)],
    "server frozen": [fault("server-freeze", 2, 5.5)],
    "server restarted": [fault("server-kill", 2, 5.5)],
    "rights withdrawn": [fault("acl-all", 2, 2.25)],
    "a connection cut": [fault("worker-cut-reply", 2, 2.1, ONE)],
    "frozen below the lease": [fault("worker-nap", 2, 2.4, ONE), stall(2, 2.4, ONE)],
    "loop blocked": [fault("worker-blocked-loop", 1, 6, ONE)],
    "another one killed": [signal(2, THREE, "SIGKILL"), ended(2, THREE, -9)],
    "another one frozen": [fault("worker-freeze", 2, 5.5, THREE)],
    "the second one frozen": [fault("worker-freeze", 2, 5.5, TWO)],
    "killed later": [signal(8, ONE, "SIGKILL"), ended(8, ONE, -9)],
    "frozen before": [fault("worker-freeze", -5, 0.5, ONE)],
    "an earlier process of the place killed": [signal(0, THREE, "SIGKILL"), ended(0.1, THREE, -9)],
}


@pytest.mark.parametrize("why", NO_EXPLANATIONS)
def test_nothing_else_explains_a_second_start(why: str) -> None:
    assert "unexplained start" in kinds(verdict(*AGAIN, *NO_EXPLANATIONS[why], result=final(TWO, 2)))


def test_one_loss_explains_one_further_start() -> None:
    killed = EXPLANATIONS["killed"]
    found = verdict(*AGAIN, start(8, THREE, 3), *killed, result=final(THREE, 3))
    assert kinds(found)[0] == "unexplained start"
    assert found.extra == {"killed": 1}


def test_a_worker_that_comes_back_may_not_start_what_another_one_has() -> None:
    # It was frozen while it held the job, which had not started. The other worker started the job,
    # and then so does this one.
    notes = [accept(0), fault("worker-freeze", 1, 5, TWO), start(4, ONE), start(5.1, TWO)]
    assert kinds(verdict(*notes, result=final())) == ["unexplained start"]


def test_a_result_needs_a_run_that_returned_it() -> None:
    assert kinds(verdict(*ONCE, result=final(TWO))) == ["result without a run"]
    assert "result without a run" in kinds(verdict(*ONCE, result=final(ONE, 2)))


def test_a_new_incarnation_of_the_worker_may_commit_its_run() -> None:
    assert kinds(verdict(*ONCE, result=final(worker=worker(ONE, 2)))) == []


def test_a_try_without_a_start_needs_a_process_that_died() -> None:
    notes = [accept(0), start(6, TWO, 2), end(7, TWO, 2)]
    assert kinds(verdict(*notes, result=final(TWO, 2))) == ["try without a start"]
    lost = [signal(1, ONE, "SIGKILL"), ended(1, ONE, -9)]
    assert kinds(verdict(*notes, *lost, result=final(TWO, 2))) == []


def test_another_value_is_a_wrong_result() -> None:
    assert kinds(verdict(*ONCE, result=final(value=8))) == ["wrong result"]


def test_poison_needs_three_deaths() -> None:
    poison = final(THREE, 3, success=False, value="poison: its worker died three times")
    deaths = [
        note
        for at, pid in ((1, ONE), (11, TWO), (21, THREE))
        for note in (start(at, pid, at // 10 + 1), signal(at + 1, pid, "SIGKILL"), ended(at + 1, pid, -9))
    ]
    assert kinds(verdict(accept(0), *deaths, result=poison)) == []
    outages = [note for note in deaths if note.event == "start"] + [fault("server-outage", 0, 30)]
    assert "wrong result" in kinds(verdict(accept(0), *outages, result=poison))


def test_any_other_failure_is_a_wrong_result() -> None:
    assert kinds(verdict(*ONCE, result=final(success=False, value="expired"))) == ["wrong result"]


def test_a_deaf_process_is_found() -> None:
    deaf = Note(9, "complaint", ONE, detail={"place": "worker-0", "what": "has done nothing"})
    assert kinds(verdict(*ONCE, deaf, result=final())) == ["deaf process"]


@pytest.mark.parametrize(
    ("notes", "found"),
    [
        ([ended(5, ONE, 3)], []),
        ([signal(4, ONE, "SIGTERM"), ended(5, ONE, 0)], []),
        ([signal(4, ONE, "SIGKILL"), ended(5, ONE, -9)], []),
        ([ended(5, ONE, 0)], ["unasked end"]),
        ([ended(5, ONE, -11)], ["unasked end"]),
        ([signal(4, ONE, "SIGTERM"), ended(5, ONE, -11)], ["unasked end"]),
        ([ended(5, 1, 1, "producer-0")], ["unasked end"]),
    ],
)
def test_an_unrequested_end_is_found(notes: list[Note], found: list[str]) -> None:
    assert kinds(verdict(*ONCE, *notes, result=final())) == found


def test_leftovers_are_findings() -> None:
    assert kinds(verdict(*ONCE, result=final(), leftovers=["due (zset) never expires"])) == ["left behind"]


AWAY = "BrokerError: cannot reach Redis"


@pytest.mark.parametrize(
    ("error", "by_server", "faults", "found"),
    [
        ("nothing came", False, [fault("server-outage", 1, 9)], ["caller not told"]),
        (AWAY, False, [fault("server-outage", 1, 9)], []),
        (AWAY, False, [fault("server-outage", 1, 3)], ["caller not told"]),
        ("no permissions to access one of the channels", True, [fault("acl-channels", 8, 10)], ["caller not told"]),
        ("no permissions to run the 'evalsha' command", True, [fault("acl-scripts", 8, 10)], []),
    ],
)
def test_a_caller_that_was_never_told_is_found(
    error: str, by_server: bool, faults: list[Note], found: list[str]
) -> None:
    untold = Note(9, "untold", 1, JOB, detail={"error": error, "by_server": by_server})
    assert kinds(verdict(*ONCE, *faults, untold, result=final())) == found


@pytest.mark.parametrize(
    ("by_server", "faults", "found"),
    [
        (True, [fault("acl-all", -1, 1)], ["refused but done"]),
        (True, [fault("acl-all", -1, 1), fault("server-kill", -2, 0.1)], []),
        (False, [fault("acl-all", -1, 1)], []),
    ],
)
def test_a_refused_call_that_has_made_a_job_is_found(by_server: bool, faults: list[Note], found: list[str]) -> None:
    refused = Note(0.2, "refuse", 1, JOB, detail={"error": "Redis refused", "by_server": by_server})
    notes = [Note(0, "ask", 1, JOB), refused, start(1, ONE), end(2, ONE)]
    assert kinds(verdict(*notes, *faults, result=final())) == found

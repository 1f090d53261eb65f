"""Checks the evidence of a run, without processes, a server or a clock.

- Each accepted job has one result, written once, and the caller received that result.
- Each start of a job after the first is explained by a fault of the process that started it before:
  it ended, was told to stop, or was frozen or cut off past its lease. Otherwise the task must have
  asked for another attempt. Faults of the server or of all processes at once explain nothing.
- Each result comes from a run that was started, with the number of tries of that run.
- A call that the server refused has created no job, and a caller that waits for a result gets an
  answer.
- No process was deaf, failed to stop, or ended without a fault.
- No keys are left in Redis.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from signal import SIGTERM
from typing import Any, NamedTuple

from tests.chaos.journal import Note

ACROSS_LEASE = {"worker-freeze": "frozen past its lease", "worker-partition": "cut off past its lease"}
"""Faults of one worker after which the others may take over its work."""

DEADLY = {"killed", "ended by itself", "machine had no time for it", *ACROSS_LEASE.values()}
"""Explanations that count as the death of a worker."""

POISON_DEATHS = 3

REFUSALS = "acl-"
"""Faults that are refusals of the server, and nothing else."""

PATIENCE_S = 5.0
"""How long a producer retries a call: the default of `connect_timeout_s`."""

TRUCE_S = 12.0
"""How long after a server outage a dead worker may keep its lease."""

SETTLES_S = 0.5
"""How long after a fault it may still affect a call."""


class Final(NamedTuple):
    """The final result of a job in Redis."""

    success: bool
    value: object
    tries: int
    worker: str


@dataclass
class Evidence:
    """All the evidence of a run.

    `results`: of every job that a producer knows, None when there is none. `stored`: jobs that the
    server accepted, by its own account; `commits`: the results it wrote, in order. `states`: what
    is known of jobs without a result.
    """

    notes: list[Note]
    results: dict[str, Final | None]
    stored: set[str]
    commits: dict[str, list[str]]
    lease_s: float
    leftovers: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)


class Finding(NamedTuple):
    """One violation; `job` is empty if it does not concern a job."""

    kind: str
    job: str
    text: str
    pid: int = 0


class Loss(NamedTuple):
    """A process may have lost its work: runs that it had begun by `until` may be started again from
    `since` on.
    """

    why: str
    since: float
    until: float


@dataclass
class Verdict:
    """The findings and the statistics.

    `extra`: starts that were explained, by explanation. `recovery_s`: the longest time from the
    death of a worker to the next start of a job that it had, while the server was there.
    """

    findings: list[Finding]
    accepted: int
    refused: int
    told: int
    starts: int
    extra: Counter[str]
    faults: Counter[str]
    recovery_s: float


def check(evidence: Evidence) -> Verdict:
    """Find all violations."""
    notes = sorted(evidence.notes, key=lambda note: note.at)
    by_event: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        by_event[note.event].append(note)
    runs = _Runs(notes, evidence.lease_s)
    findings = [
        *_lost(evidence, by_event["accept"]),
        *_committed_twice(evidence),
        *_told_wrong(evidence, by_event["told"]),
        *_untold(by_event["untold"], by_event["fault"]),
        *_refused_and_done(evidence, by_event),
        *runs.unexplained(),
        *_wrong_results(evidence, by_event["accept"], runs),
        *_processes(notes),
        *(Finding("left behind", "", line) for line in evidence.leftovers),
    ]
    return Verdict(
        findings=findings,
        accepted=len({note.job for note in by_event["accept"]}),
        refused=len(by_event["refuse"]),
        told=len(by_event["told"]),
        starts=len(by_event["start"]),
        extra=runs.extra,
        faults=Counter(str(note.detail["kind"]) for note in by_event["fault"]),
        recovery_s=runs.recovery_s,
    )


def _lost(evidence: Evidence, accepted: list[Note]) -> Iterable[Finding]:
    for job in dict.fromkeys(note.job for note in accepted):
        if evidence.results.get(job) is None:
            yield Finding("lost job", job, f"was accepted and has no result: {evidence.states.get(job, 'unknown')}")
    known = {note.job for note in accepted}
    for job in sorted(evidence.stored - evidence.commits.keys() - known):
        yield Finding("lost job", job, "was stored for a caller that heard nothing, and has no result")


def _committed_twice(evidence: Evidence) -> Iterable[Finding]:
    for job, commits in evidence.commits.items():
        if len(commits) > 1:
            yield Finding("second commit", job, f"{len(commits)} results were written: {' | '.join(commits)}")


def _told_wrong(evidence: Evidence, told: list[Note]) -> Iterable[Finding]:
    for note in told:
        final = evidence.results.get(note.job)
        said = Final(**note.detail["result"])
        if final is not None and said != final:
            yield Finding("second commit", note.job, f"its caller was told {said}, and Redis says {final}")


def _untold(untold: list[Note], faults: list[Note]) -> Iterable[Finding]:
    """A caller may get an error while the server was unavailable.

    Without a channel, callers poll for their results.
    """
    for note in untold:
        if note.detail["by_server"]:
            honest = "channel" not in note.detail["error"]
        else:
            since = note.at - PATIENCE_S - SETTLES_S
            away = any(fault.detail["ended"] >= since and fault.detail["began"] <= note.at for fault in faults)
            honest = away and "cannot reach Redis" in note.detail["error"]
        if not honest:
            yield Finding("caller not told", note.job, note.detail["error"], note.pid)


def _refused_and_done(evidence: Evidence, by_event: dict[str, list[Note]]) -> Iterable[Finding]:
    """A call that the server refused has created no job.

    A call without a reply may have, since it is retried.
    """
    asked = {note.job: note.at for note in by_event["ask"]}
    others = [note for note in by_event["fault"] if not note.detail["kind"].startswith(REFUSALS)]
    for note in by_event["refuse"]:
        if not note.detail.get("by_server") or note.job not in evidence.stored:
            continue
        since = asked[note.job] - SETTLES_S
        if not any(fault.detail["began"] <= note.at and since <= fault.detail["ended"] for fault in others):
            yield Finding("refused but done", note.job, f"is stored, and its caller was told: {note.detail['error']}")


def _wrong_results(evidence: Evidence, accepted: list[Note], runs: "_Runs") -> Iterable[Finding]:
    expected = {note.job: note.detail.get("value") for note in accepted}
    for job, final in evidence.results.items():
        if final is None:
            continue
        starts = runs.starts[job]
        if not final.success:
            deaths = sum(runs.died(start) for start in starts)
            if "poison" not in str(final.value) or deaths < POISON_DEATHS:
                yield Finding("wrong result", job, f"failed after {len(starts)} starts, {deaths} deaths: {final.value}")
            continue
        if job in expected and final.value != expected[job]:
            yield Finding("wrong result", job, f"returned {final.value!r} instead of {expected[job]!r}")
        if not any(start.tries == final.tries and _same_process(start, final) for start in starts):
            yield Finding("result without a run", job, f"{final} was started by none of {[*map(str, starts)]}")
        if final.tries > len(starts) + runs.unseen(job):
            yield Finding("try without a start", job, f"{final.tries} tries, {len(starts)} starts")


def _same_process(start: Note, final: Final) -> bool:
    return start.worker.partition("~")[0] == final.worker.partition("~")[0]


def _processes(notes: list[Note]) -> Iterable[Finding]:
    sent: dict[int, set[str]] = defaultdict(set)
    for note in notes:
        if note.event == "signal":
            sent[note.pid].add(str(note.detail["name"]))
        elif note.event == "complaint":
            yield Finding("deaf process", "", f"{note.detail['place']}: {note.detail['what']}", note.pid)
        elif note.event == "exit" and not _may_end_so(note, sent[note.pid]):
            yield Finding(
                "unasked end", "", f"{note.detail['place']} ended with status {note.detail['code']}", note.pid
            )


def _may_end_so(end: Note, sent: set[str]) -> bool:
    """A worker may give up with an error.

    No other process exits unless told to, and none crashes.
    """
    code = end.detail["code"]
    if "SIGKILL" in sent:
        return True
    if "SIGTERM" in sent:
        return bool(code >= 0 or code == -SIGTERM)
    return bool(code > 0 and end.detail["place"].startswith("worker"))


class _Runs:
    """The starts of all jobs, and the reasons for repeated starts."""

    def __init__(self, notes: list[Note], lease_s: float) -> None:
        self.starts: dict[str, list[Note]] = defaultdict(list)
        self.extra: Counter[str] = Counter()
        self.recovery_s = 0.0
        of_server = (note for note in notes if note.event == "fault" and note.detail["target"] == "server")
        self._away = [(note.detail["began"], note.detail["ended"]) for note in of_server]
        self.losses = _losses(notes, lease_s)
        self._first: dict[str, float] = {}
        self._raised: dict[tuple[str, int, int], float] = {}
        for note in notes:
            if note.job:
                self._first.setdefault(note.job, note.at)
            if note.event == "start":
                self.starts[note.job].append(note)
            elif note.event == "raise":
                self._raised[note.job, note.pid, note.tries] = note.at

    def unexplained(self) -> Iterable[Finding]:
        """Walk through the starts of each job: every one but the first uses up an earlier run that
        was lost.
        """
        for job, starts in self.starts.items():
            open_runs = starts[:1]
            for start in starts[1:]:
                found = next(((run, why) for run in open_runs if (why := self._why(run, start))), None)
                if found is None:
                    earlier = "; ".join(str(run) for run in open_runs)
                    yield Finding("unexplained start", job, f"{start}, after {earlier}", start.pid)
                else:
                    lost, reason = found
                    open_runs.remove(lost)
                    self.extra[reason] += 1
                open_runs.append(start)

    def died(self, start: Note) -> bool:
        """Return whether the process of a run died after the run had begun."""
        return any(loss.why in DEADLY and start.at <= loss.until for loss in self.losses[start.pid])

    def unseen(self, job: str) -> int:
        """Processes lost while the job was unfinished: each may have recorded a start without
        noting it in the journal.
        """
        first, last = self._first[job], self.starts[job][-1].at if self.starts[job] else float("inf")
        deadly = (loss for losses in self.losses.values() for loss in losses if loss.why in DEADLY)
        return sum(loss.until >= first and loss.since <= last for loss in deadly)

    def _disturbed(self, since: float, until: float) -> bool:
        """Whether the server was away shortly before or meanwhile: then no worker is declared dead
        for a while.
        """
        return any(ended >= since - TRUCE_S and began <= until for began, ended in self._away)

    def _why(self, run: Note, start: Note) -> str:
        """Return the explanation for a new start of the job after `run`; empty if there is none."""
        raised = self._raised.get((run.job, run.pid, run.tries))
        if raised is not None and raised <= start.at:
            return "asked for by the task"
        for loss in self.losses[run.pid]:
            if run.at <= loss.until and loss.since <= start.at:
                if loss.why == "killed" and not self._disturbed(loss.since, start.at):
                    self.recovery_s = max(self.recovery_s, start.at - loss.since)
                return loss.why
        return ""


def _losses(notes: list[Note], lease_s: float) -> dict[int, list[Loss]]:
    """For each process: when it may have lost its work, and why."""
    found: dict[int, list[Loss]] = defaultdict(list)
    told: dict[int, tuple[str, float]] = {}
    for note in notes:
        detail: dict[str, Any] = note.detail
        if note.event == "signal" and detail["name"] in ("SIGTERM", "SIGKILL"):
            why = "killed" if detail["name"] == "SIGKILL" else "stopped"
            told.setdefault(note.pid, (why, note.at))
        elif note.event == "exit":
            why, since = told.get(note.pid, ("ended by itself", note.at))
            found[note.pid].append(Loss(why, since, note.at))
        elif note.event == "fault" and detail["kind"] in ACROSS_LEASE:
            found[note.pid].append(Loss(ACROSS_LEASE[detail["kind"]], detail["began"], detail["ended"]))
    frozen = [(n.pid, n.detail["began"]) for n in notes if n.event == "fault" and "freeze" in n.detail["kind"]]
    for note in notes:
        if note.event != "stall" or note.detail["ended"] - note.detail["began"] < lease_s / 2:
            continue
        began, ended = note.detail["began"], note.detail["ended"]
        # A freeze of ours stalls the process too; it is counted once.
        if not any(pid == note.pid and began - 1 <= at <= ended for pid, at in frozen):
            found[note.pid].append(Loss("machine had no time for it", began, ended))
    return found

"""The report of a run: a summary, and the history of every job that went wrong."""

from collections.abc import Iterable
from pathlib import Path

from tests.chaos.checker import Finding, Verdict
from tests.chaos.journal import Note
from tests.chaos.store import Store, about

MOST_ALIKE = 8
MOST_HISTORIES = 5
MOST_LINES = 60
AROUND_S = 5.0


def summary(verdict: Verdict, notes: list[Note], *, title: str, repeat: str, seconds: float) -> str:
    """Return the statistics of a run, in a few lines."""
    returns = [note for note in notes if note.event == "back"]
    slowest = max(returns, key=lambda note: float(note.detail["seconds"]), default=None)
    ends = [note for note in notes if note.event == "exit" and note.detail["code"] > 0]
    starved = [note.detail["ended"] - note.detail["began"] for note in notes if note.event == "late"]
    lines = [
        f"{title}: {seconds:.0f} s",
        f"  jobs      {verdict.accepted} accepted, {verdict.refused} calls refused, {verdict.told} results told",
        f"  starts    {verdict.starts}, of these again: {_counts(verdict.extra)}",
        f"  faults    {sum(verdict.faults.values())}: {_counts(verdict.faults)}",
        f"  gave up   {len(ends)} workers ended by themselves with an error",
    ]
    if verdict.recovery_s:
        lines.append(f"  recovery  {verdict.recovery_s:.1f} s at most from the death of a worker to a job's next start")
    if slowest is not None:
        lines.append(f"  back      {slowest.detail['seconds']:.1f} s at most, {slowest.detail['place']}")
    if starved:
        lines.append(f"  machine   was too busy for this run {len(starved)} times, {max(starved):.1f} s at most")
    lines.append(f"  repeat    {repeat}")
    kinds = _counts(_kinds(verdict.findings))
    lines.append(f"  {'FAILED' if verdict.findings else 'passed'}    {kinds}" if verdict.findings else "  passed")
    return "\n".join(lines)


def histories(verdict: Verdict, notes: list[Note], store: Store, directory: Path) -> str:
    """Return the findings, with details of the first ones: journal, append-only file, logs, and the
    faults at the time.
    """
    parts: list[str] = []
    for kind, number in sorted(_kinds(verdict.findings).items()):
        alike = [finding for finding in verdict.findings if finding.kind == kind][:MOST_ALIKE]
        parts += [f"  {kind}: {finding.job} {finding.text}" for finding in alike]
        if number > len(alike):
            parts.append(f"  {kind}: {number - len(alike)} more")
    jobs = dict.fromkeys(finding.job for finding in verdict.findings if finding.job)
    for job in list(jobs)[:MOST_HISTORIES]:
        own = [note for note in notes if note.job == job]
        pids = {note.pid for note in own}
        began = min((note.at for note in own), default=0.0)
        ended = max((note.at for note in own), default=0.0)
        near = [note for note in notes if _concerns(note, pids, began - AROUND_S, ended + AROUND_S)]
        story = sorted({id(note): note for note in own + near}.values(), key=lambda note: note.at)
        parts += [
            f"\njob {job}",
            *_part("journal", map(str, story)),
            *_part("written by the server", about(store, job)),
            *_part("logs", _log_lines(directory, [job])),
        ]
    for pid in dict.fromkeys(finding.pid for finding in verdict.findings if finding.pid and not finding.job):
        log = next((n.detail["log"] for n in notes if n.event == "spawn" and n.pid == pid), "")
        tail = (directory / log).read_text(errors="replace").splitlines()[-MOST_LINES:] if log else []
        parts += [f"\nprocess {pid}", *_part(f"end of {log}", tail)]
    return "\n".join(parts)


def _concerns(note: Note, pids: set[int], since: float, until: float) -> bool:
    if note.event not in ("fault", "signal", "exit", "spawn", "stall", "late") or not since <= note.at <= until:
        return False
    return note.pid in pids or note.event == "late" or note.detail.get("target") == "server"


def _log_lines(directory: Path, words: list[str]) -> Iterable[str]:
    for log in sorted(directory.glob("*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if any(word in line for word in words):
                yield f"{log.name}: {line}"


def _part(name: str, lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    left_out = [f"    … {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return [f"  {name}:", *(f"    {line}" for line in lines[:MOST_LINES]), *left_out]


def _kinds(findings: list[Finding]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
    return counts


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"

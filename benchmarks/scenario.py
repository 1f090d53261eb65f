"""Defines a scenario: a function that runs one contender once and returns its figures, and the
contenders that take part.

Nothing else runs while the figures of a round are taken. The harness goes through the contenders in
turn, round by round, so that a change in the machine's speed affects all of them. Ratios are taken
within a round for the same reason.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from benchmarks.contenders import Contender
from benchmarks.report import Figures
from benchmarks.stage import SLOW_US, Stage


@dataclass(frozen=True)
class Size:
    """How much work a run does: `full` for figures, `quick` to check that everything runs."""

    jobs: int
    peer_jobs: int
    one_by_one: int
    round_trips: int
    naps: int
    crunches: int
    due: int
    moments: int
    backlogs: tuple[int, ...]
    lanes: tuple[int, ...]
    scheduled: tuple[int, ...]
    pending: tuple[int, ...]


FULL = Size(
    jobs=50_000,
    peer_jobs=1_000,
    one_by_one=500,
    round_trips=1000,
    naps=1_000,
    crunches=500,
    due=100_000,
    moments=200,
    backlogs=(10_000, 100_000, 1_000_000),
    lanes=(1, 2, 4, 8),
    scheduled=(0, 1_000, 100_000),
    pending=(0, 10_000, 100_000),
)
QUICK = Size(
    jobs=2_000,
    peer_jobs=100,
    one_by_one=50,
    round_trips=20,
    naps=100,
    crunches=50,
    due=2_000,
    moments=40,
    backlogs=(1_000, 5_000),
    lanes=(1, 8),
    scheduled=(0, 1_000),
    pending=(0, 1_000),
)

Rows = dict[str, Figures]
Run = Callable[[Stage, Contender, Size], Rows]


@dataclass(frozen=True)
class Scenario:
    """A run, the contenders that take part, and what it measures."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    run: Run
    shown_by: str = ""
    """Another scenario that runs the same code of the peers.

    A quick run tests the peers only there.
    """
    compared: bool = True
    """Whether its rows are of one kind, so that their ratios are meaningful."""

    def entrants(self, names: frozenset[str], *, quick: bool) -> list[Contender]:
        """Return those of `names` that take part, in the order of their turns."""
        wanted = [one for one in self.contenders if one.is_among(names)]
        return [one for one in wanted if not (quick and self.shown_by and one.is_peer)]


def one_row(measure: Callable[[Stage, Contender, Size], Figures]) -> Run:
    """Return the contender's row: the figures that are meaningful for it."""

    @wraps(measure)
    def run(stage: Stage, contender: Contender, size: Size) -> Rows:
        figures, wanted = measure(stage, contender, size), contender.measures
        return {contender.name: {name: each for name, each in figures.items() if wanted is None or name in wanted}}

    return run


def jobs_for(contender: Contender, size: Size) -> int:
    """Return the number of jobs.

    Peers get fewer: their time per job does not depend on the number, and the run would take
    minutes.
    """
    return size.peer_jobs if contender.is_peer else size.jobs


def longest_call(stage: Stage, row: str) -> Figures:
    """Return the server's longest call since `forget_calls`, and print which scripts took long.

    The server's own clock measures it. If the machine has too few processors for everything that
    runs, it includes the pauses of the server.
    """
    calls = stage.longest_calls()
    each = ", ".join(f"{name} {ms:.2f}" for name, ms in sorted(calls.items(), key=lambda call: -call[1]))
    print(f"  longest calls in ms, {row}: {each or 'none was long'}", file=sys.stderr)
    return {"longest call ms": max(calls.values(), default=SLOW_US / 1000)}

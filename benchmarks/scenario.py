"""What a scenario is: a function that runs one contender once and gives its figures, and who takes
part.

All figures of one round are taken with nothing else running; the harness goes through the
contenders in turn, round by round, so that a machine that changes its speed changes it for all.
Ratios are taken within a round for the same reason.
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
    """How much work a run is: `full` for figures, `quick` to see that everything runs."""

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
    """A run, who takes part, and what it shows."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    run: Run
    shown_by: str = ""
    """Another scenario that runs the same code of the peers; a quick run leaves them to that
    one.
    """
    compared: bool = True
    """Its rows are of one kind, so that their ratios mean something."""

    def entrants(self, names: frozenset[str], *, quick: bool) -> list[Contender]:
        """Those of `names` that take part, in the order of their turns."""
        wanted = [one for one in self.contenders if one.is_among(names)]
        return [one for one in wanted if not (quick and self.shown_by and one.is_peer)]


def one_row(measure: Callable[[Stage, Contender, Size], Figures]) -> Run:
    """The contender's row: of the figures those that mean something for it."""

    @wraps(measure)
    def run(stage: Stage, contender: Contender, size: Size) -> Rows:
        figures, wanted = measure(stage, contender, size), contender.measures
        return {contender.name: {name: each for name, each in figures.items() if wanted is None or name in wanted}}

    return run


def jobs_for(contender: Contender, size: Size) -> int:
    """Peers get fewer jobs: what they take per job does not depend on it, and the run would take
    minutes.
    """
    return size.peer_jobs if contender.is_peer else size.jobs


def longest_call(stage: Stage, row: str) -> Figures:
    """The call that took the server longest since it was last told to forget; which scripts took
    long is said besides.

    It is the server's own clock: where the machine has too few processors for all that runs, its
    pauses are in it.
    """
    calls = stage.longest_calls()
    each = ", ".join(f"{name} {ms:.2f}" for name, ms in sorted(calls.items(), key=lambda call: -call[1]))
    print(f"  longest calls in ms, {row}: {each or 'none was long'}", file=sys.stderr)
    return {"longest call ms": max(calls.values(), default=SLOW_US / 1000)}

"""Measures latency: from the enqueue to the result, and from a job's due time to its start."""

import statistics
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.contenders import OURS, PEERS, Contender
from benchmarks.report import Figures
from benchmarks.scenario import Rows, Scenario, Size, longest_call, one_row
from benchmarks.stage import LIMIT_S, RunFailed, Stage, Worker

AHEAD_MS = 2_000
"""Jobs with individual due times are enqueued this long before the first of them is due."""

SPREAD_MS = 4_000

SPIN_S = 0.5
"""How long to read the clock without a pause.

The kernel stops a program with real-time priority that leaves no time to others.
"""

SPINS = 5
"""Together, these last as long as the pings of a row."""

PING_EVERY_S = 0.001
"""Short enough to detect every relevant pause, and long enough to leave the processors to the
measured programs.
"""


IDLE_PAUSE_S = 0.01
"""Long enough for every thread on the way, and the processor, to go to sleep."""


@one_row
def round_trip(stage: Stage, contender: Contender, size: Size) -> Figures:
    """Measures round trips, one directly after another."""
    return _round_trips(stage, contender, size, 0)


@one_row
def idle_round_trip(stage: Stage, contender: Contender, size: Size) -> Figures:
    """Measures round trips with a pause before each."""
    return _round_trips(stage, contender, size, IDLE_PAUSE_S)


def _round_trips(stage: Stage, contender: Contender, size: Size, pause_s: float) -> Figures:
    # If each takes a tenth of a second or more, a few are enough.
    count = max(2, size.round_trips // 30) if contender.polls else size.round_trips
    with stage.worker(contender) as worker:
        stage.produce(contender, "bulk", "noop", 1, 0)
        stage.wait_for([worker], 2)
        if pause_s:
            each = stage.produce(contender, "idle_round_trips", count, pause_s)["each"]
        else:
            each = stage.produce(contender, "round_trips", count)["each"]
    figures = {"p50 ms": statistics.median(each) * 1000, "p99 ms": percentile(each, 99) * 1000}
    return figures if contender.is_peer else {**figures, "PING p50 ms": _ping_ms(stage, pause_s)}


def percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _ping_ms(stage: Stage, pause_s: float) -> float:
    """Returns the median of a blocking client's PING, with a pause before each."""
    program = (
        "import json, os, statistics, time, redis\n"
        "server, each = redis.Redis.from_url(os.environ['BENCH_URL']), []\n"
        "for _ in range(1000):\n"
        f"    time.sleep({pause_s}) if {pause_s} else None\n"
        "    started = time.perf_counter()\n"
        "    server.ping()\n"
        "    each.append(time.perf_counter() - started)\n"
        "print(json.dumps({'ms': statistics.median(each) * 1000}))"
    )
    return float(stage.say([sys.executable, "-c", program])["ms"])


def lateness(stage: Stage, contender: Contender, size: Size) -> Rows:
    """Measure single jobs with individual due times, then how long other clients wait, with normal
    and with real-time priority.
    """
    with stage.worker(contender) as worker:
        stage.produce(contender, "bulk", "noop", 1, 0)
        stage.wait_for([worker], 2)

        stage.forget_calls()
        _delay(stage, contender, size.moments, AHEAD_MS, SPREAD_MS)
        stage.wait_for([worker], 2 + size.moments)
        row = f"{size.moments:,} jobs, each due at its own moment"
        late_ms = [late_us / 1000 for late_us in worker.late_us]
        figures = {"late p50 ms": statistics.median(late_ms), "late p99 ms": percentile(late_ms, 99)}
        rows = {row: {**figures, **longest_call(stage, row)}}

        rows.update(_delays_of_others(stage, contender, worker, size.due, ""))
        with stage.ahead() as allowed:
            if allowed:
                how = ", server and client with real-time priority"
                rows.update(_delays_of_others(stage, contender, worker, size.due, how))
                rows["no client, nothing runs"] = {"longest pause of the machine ms": _longest_pause_ms()}
    return rows


def _delays_of_others(stage: Stage, contender: Contender, worker: Worker, count: int, how: str) -> Rows:
    """Return the slowest PING of another client while many jobs run that are due in one
    millisecond, or that are simply ready.

    The last row is the yardstick for the one before: how long other clients wait while a worker is
    busy with any jobs.
    """
    rows: Rows = {}
    goal = worker.count + count
    early_ms = _delay(stage, contender, count, AHEAD_MS + count // 15, 0)
    time.sleep(max(0, early_ms - 100) / 1000)
    stage.forget_calls()
    row = f"{count:,} jobs due in one millisecond{how}"
    rows[row] = _pings(stage, lambda: worker.count >= goal)
    stage.wait_for([worker], goal)
    rows[row].update(longest_call(stage, row))

    goal = worker.count + count + 1
    with worker.frozen():
        stage.produce(contender, "bulk", "noop", count, 0)
        stage.forget_calls()
    row = f"{count:,} jobs ready{how}"
    rows[row] = _pings(stage, lambda: worker.count >= goal)
    stage.wait_for([worker], goal)
    rows[row].update(longest_call(stage, row))
    return rows


def _delay(stage: Stage, contender: Contender, count: int, ahead_ms: int, spread_ms: int) -> int:
    """Enqueue jobs of which the first is due in `ahead_ms`.

    Returns how much time is left until then.
    """
    first_ms = int(time.time() * 1000) + ahead_ms
    stage.produce(contender, "delayed", count, first_ms, spread_ms)
    early_ms = first_ms - int(time.time() * 1000)
    if early_ms < 0:
        raise RunFailed(f"the last jobs were enqueued {-early_ms} ms after the first was due")
    return early_ms


def _pings(stage: Stage, done: Callable[[], bool]) -> Figures:
    """Return how long another client waits for each PING until `done`."""
    each: list[float] = []
    end = time.monotonic() + LIMIT_S
    while not done() and time.monotonic() < end:
        started = time.perf_counter()
        stage.cli("PING")
        each.append((time.perf_counter() - started) * 1000)
        time.sleep(PING_EVERY_S)
    return {"p99 PING ms": percentile(each, 99), "slowest PING ms": max(each)}


def _longest_pause_ms() -> float:
    """Return the longest time for which this process, which only reads the clock, did not run."""
    longest_ns = 0
    for _ in range(SPINS):
        last_ns = started_ns = time.perf_counter_ns()
        while last_ns - started_ns < SPIN_S * 1e9:
            now_ns = time.perf_counter_ns()
            longest_ns = max(longest_ns, now_ns - last_ns)
            last_ns = now_ns
        time.sleep(SPIN_S)
    return longest_ns / 1e6


SCENARIOS = (
    Scenario("round-trip", "Round trip, enqueue to result in hand", (OURS, *PEERS), round_trip),
    Scenario(
        "round-trip-idle",
        "Round trip with pauses of 10 ms",
        (OURS, *(peer for peer in PEERS if not peer.polls)),
        idle_round_trip,
        shown_by="round-trip",
    ),
    Scenario("lateness", "Delayed jobs on an idle worker", (OURS,), lateness, compared=False),
)

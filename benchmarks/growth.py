"""Measures what a job costs when more jobs wait, in more lanes, or when many are scheduled or held
by another worker.

A job should cost the same in every row. To make the rows comparable, the worker is warm, and is
stopped while the backlog grows. Small backlogs are repeated until about as many jobs have run as in
a large one. The server never waits for a processor, so that its longest call does not include the
pauses of a busy machine.
"""

import time
from collections import Counter
from contextlib import nullcontext

from benchmarks.contenders import OURS, Contender
from benchmarks.report import Figures
from benchmarks.scenario import Rows, Scenario, Size, longest_call
from benchmarks.stage import Stage

WARM = 1_000
FAR_MS = 24 * 3_600_000

PORTION = 100_000
"""Jobs that are enqueued without a pause.

If a program with real-time priority is busy for more than 95 % of a second, the kernel stops it for the rest of that second (`sched_rt_runtime_us`, sched(7))."""

SMALL_NODES = 10
"""Entries in a node of a stream, for the rows that do not use the server's default of 100."""


def cost(stage: Stage, contender: Contender, row: str, backlog: int, jobs: int) -> Figures:
    """Drain at least `jobs` jobs, `backlog` at a time, with a warm worker."""
    times = max(1, jobs // backlog)
    portions = [min(PORTION, backlog - start) for start in range(0, backlog, PORTION)]
    # Each portion's producer warms up with a job of its own.
    waiting = backlog + len(portions)
    seconds = server_cpu_s = 0.0
    usec: Counter[str] = Counter()
    with stage.worker(contender) as worker, stage.ahead():
        stage.produce(contender, "bulk", "noop", WARM, 0)
        stage.wait_for([worker], WARM + 1)
        stage.forget_calls()
        for _ in range(times):
            goal = worker.count + waiting
            with worker.frozen():
                for portion in portions:
                    stage.produce(contender, "bulk", "noop", portion, 0)
                before, started_ns = stage.counters(), time.monotonic_ns()
            stage.wait_for([worker], goal, limit_s=max(60.0, backlog / 5_000))
            seconds += (worker.last_ns - started_ns) / 1e9
            counted = stage.counters().since(before)
            server_cpu_s += counted.cpu_s
            usec.update(counted.usec)
    run = times * waiting
    deleting_us = usec["xdel"] + usec["xtrim"]
    return {
        "jobs/s": run / seconds,
        "Redis CPU µs/job": server_cpu_s / run * 1e6,
        "of which XDEL and XTRIM, µs/job": deleting_us / run,
        # Each job has one PSETEX in every row: a yardstick whose speed changes with the machine's.
        "everything else, in PSETEX calls": (server_cpu_s * 1e6 - deleting_us) / usec["psetex"],
        **longest_call(stage, row),
    }


def growth(stage: Stage, contender: Contender, size: Size) -> Rows:
    rows: Rows = {}
    for backlog in size.backlogs:
        stage.clear()
        row = f"{backlog:,} waiting"
        rows[row] = cost(stage, contender, row, backlog, size.jobs)
    return rows


def growth_lanes(stage: Stage, contender: Contender, size: Size) -> Rows:
    rows: Rows = {}
    for lanes in size.lanes:
        stage.clear()
        row = f"{lanes} lane{'s' if lanes > 1 else ''}"
        rows[row] = cost(stage, contender.having(lanes=lanes), row, size.jobs, size.jobs)
    return rows


def growth_scheduled(stage: Stage, contender: Contender, size: Size) -> Rows:
    rows: Rows = {}
    for scheduled in size.scheduled:
        stage.clear()
        if scheduled:
            stage.produce(contender, "delayed", scheduled, int(time.time() * 1000) + FAR_MS, 0)
        row = f"{scheduled:,} scheduled"
        rows[row] = cost(stage, contender, row, size.jobs, size.jobs)
    return rows


def growth_pending(stage: Stage, contender: Contender, size: Size) -> Rows:
    rows: Rows = {}
    few, many = size.pending[0], size.pending[-1]
    for pending, nodes in (*((pending, 0) for pending in size.pending), (few, SMALL_NODES), (many, SMALL_NODES)):
        stage.clear()
        row = f"{pending:,} pending"
        if nodes:
            row += f", nodes of {nodes}"
            stage.cli("CONFIG", "SET", "stream-node-max-entries", nodes)
        # Another living worker, which holds as many jobs as it may, so that it takes none of the
        # measured ones.
        holder = contender.at(pending).having(prefetch=pending)
        with stage.worker(holder) if pending else nullcontext() as holding:
            if holding:
                stage.produce(contender, "bulk", "hold", pending, 0)
                stage.wait_for([holding], pending + 1)
            rows[row] = cost(stage, contender, row, size.jobs, size.jobs)
    return rows


SCENARIOS = (
    Scenario("growth", "Cost per job by backlog", (OURS,), growth),
    Scenario("growth-lanes", "Cost per job by lanes, over which the jobs are spread", (OURS,), growth_lanes),
    Scenario("growth-scheduled", "Cost per job beside jobs that are due tomorrow", (OURS,), growth_scheduled),
    Scenario("growth-pending", "Cost per job beside jobs that another worker holds", (OURS,), growth_pending),
)

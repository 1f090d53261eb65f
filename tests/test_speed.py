"""A first check that the hot path works as designed.

The tests show times, but assert only counts.
"""

import json
import os
import subprocess
import sys
import time

from benchmarks.contenders import FLOOR
from benchmarks.drain import drained
from benchmarks.stage import Stage
from tests.conftest import FleetFactory, Measured, ServerFactory
from tests.fleet import Fleet

JOBS = 20_000


def rate(fleet: Fleet, *arguments: str, **options: int) -> float:
    program = fleet.start(*arguments, **options)
    assert program.end() == 0, program.output
    return float(json.loads(program.output.splitlines()[-1])["jobs_per_s"])


def test_one_worker_drains_twenty_thousand_jobs_with_few_commands(
    make_server: ServerFactory, make_fleet: FleetFactory, measured: Measured
) -> None:
    server = make_server()
    fleet = make_fleet(server)
    with Stage(server.kind) as stage:
        floor = drained(stage, FLOOR, "noop", JOBS)["jobs/s"]
    ours = rate(fleet, "-m", "tests.actors.drain", str(JOBS), concurrency=100)
    statistics = server.cli("INFO", "commandstats")

    def per_job(command: str) -> float:
        return float(statistics.get(f"cmdstat_{command}", {"calls": 0})["calls"]) / JOBS

    measured("jobs/s drained", ours)
    measured("jobs/s of the floor", floor)
    measured("% of the floor", 100 * ours / floor)
    measured("script calls per thousand jobs", 1000 * per_job("evalsha"))
    # Script calls of the whole life of a job, its enqueue included, and all blocking reads.
    assert per_job("evalsha") + per_job("xreadgroup") <= 0.2
    # One result each, and nothing read; records of new jobs, acknowledgements and deletions go in
    # batches.
    assert 1 <= per_job("psetex") + per_job("set") <= 1.01
    assert per_job("xadd") == 1
    assert per_job("msetnx") <= 0.01
    # On a busy machine, some runs last so long that their starts are recorded.
    assert per_job("get") <= 0.1
    assert per_job("xack") <= 0.1
    # Completed entries are trimmed by whole nodes, because deleting them one by one would be the
    # most expensive part of a drain.
    assert per_job("xtrim") <= 0.1
    assert per_job("xdel") <= 0.1
    assert per_job("hset") <= 0.1
    # A worker that connects asks who follows which jobs.
    assert per_job("publish") <= 1 / JOBS


def test_how_long_help_takes(measured: Measured) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def once() -> float:
        start = time.perf_counter()
        command = [sys.executable, "-m", "ardiq_cli", "--help"]
        subprocess.run(command, env=environment, capture_output=True, check=True)
        return time.perf_counter() - start

    once()  # writes the byte code
    # The best of several, because other processes on the machine can only make it longer. Another
    # test checks what it loads.
    measured("ms until `ardiq --help` has answered (300 at most)", 1000 * min(once() for _ in range(5)))

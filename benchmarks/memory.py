"""Measures the memory of an idle worker, for each way to run it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import OURS, Contender
from benchmarks.report import Figures
from benchmarks.scenario import Rows, Scenario, Size
from benchmarks.stage import LIMIT_S, RunFailed, Stage

MODULE = """
import os
from ardiq import Ardiq

app = Ardiq(os.environ["BENCH_URL"], "bench")

@app.task
async def noop() -> None: ...
"""

PROGRAM = "import asyncio; from bench_app import app; asyncio.run(app.run())"
COMMAND = ("-m", "ardiq_cli", "run", "bench_app:app")


def memory(stage: Stage, contender: Contender, size: Size) -> Rows:
    """Measures after the workers have signed on: nothing has run yet."""
    (stage.directory / "bench_app.py").write_text(MODULE, encoding="utf-8")
    rows: Rows = {}
    with _running(stage, ["-c", PROGRAM], 1) as program:
        rows["`app.run()` in a program"] = _figures(program)
    with _running(stage, COMMAND, 1) as program:
        rows["`ardiq run`"] = _figures(program)
    with _running(stage, [*COMMAND, "-w", "2"], 2) as program:
        workers = [_figures(child) for child in _children(program)]
        rows["`ardiq run -w 2`, each worker"] = max(workers, key=lambda figures: figures["RSS MB"])
        rows["`ardiq run -w 2`, the supervisor"] = _figures(program)
    return rows


@contextmanager
def _running(stage: Stage, arguments: Sequence[str], workers: int) -> Iterator[int]:
    """Yields the process id of a program whose workers have signed on."""
    stage.clear()
    environment = {**os.environ, "BENCH_URL": stage.url, "PYTHONPATH": str(stage.directory)}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=stage.directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + LIMIT_S
        while stage.cli("ZCARD", "ardiq:{bench}:workers") != workers:
            if process.poll() is not None or time.monotonic() > end:
                raise RunFailed(f"python {' '.join(arguments)} has not started {workers} workers")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in listed]


def _figures(process: int) -> Figures:
    """RSS counts pages that processes share in each of them; PSS counts each page once, in equal
    parts.
    """
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return {"RSS MB": kilobytes["Rss"] / 1024, "PSS MB": kilobytes["Pss"] / 1024}


SCENARIOS = (Scenario("memory", "Memory of an idle worker", (OURS,), memory, compared=False),)

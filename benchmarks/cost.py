"""Measures what a job costs over its whole life, with exact counters, and what the client costs a
process that imports it.
"""

from importlib.metadata import distribution
from pathlib import Path

from benchmarks.contenders import FLOOR, OURS, PEERS, Contender
from benchmarks.report import Figures
from benchmarks.scenario import Scenario, Size, jobs_for, one_row
from benchmarks.stage import Stage

MOST = {"round trips/job": 0.1, "commands/job": 4.0, "script calls/job": 0.1}
"""The most that one of our jobs may cost when jobs are drained in bulk.

These values are counted, not timed, so a higher one is a regression.
"""


@one_row
def counters(stage: Stage, contender: Contender, size: Size) -> Figures:
    """Return what the server and the worker count over a job's whole life, drained in bulk."""
    count = jobs_for(contender, size)
    before = stage.counters()
    stage.produce(contender, "bulk", "noop", count, 0)
    with stage.worker(contender.having(turns=1) if contender.one_thread else contender) as worker:
        stage.wait_for([worker], count + 1)
        spent = stage.counters().since(before)
        wake_ups = worker.wake_ups()
    figures = {
        "Redis CPU µs/job": spent.cpu_s / count * 1e6,
        "round trips/job": spent.reads / count,
        "commands/job": sum(spent.calls.values()) / count,
        "bytes in/job": spent.bytes_in / count,
        "bytes out/job": spent.bytes_out / count,
        "worker wake-ups/job": wake_ups / count,
    }
    if scripts := spent.calls.get("evalsha", 0):
        figures["script calls/job"] = scripts / count
    if contender.one_thread:
        # Only its loop's thread takes the GIL, and it releases the GIL when the loop calls its
        # selector, once in each turn.
        figures["GIL acquisitions/job"] = worker.turns / count
    return figures


@one_row
def imported(stage: Stage, contender: Contender, size: Size) -> Figures:
    """Return what the import adds to an interpreter that has imported asyncio.

    It is the best of five processes, since other processes can only make it slower.
    """
    program = (
        "import asyncio, json, resource, time\n"
        "def rss():\n"
        "    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmRSS'))\n"
        "before, started = rss(), time.perf_counter()\n"
        f"{contender.imports}\n"
        "seconds = time.perf_counter() - started\n"
        "print(json.dumps({'seconds': seconds, 'kb': rss() - before}))"
    )
    said = [stage.say([str(contender.python), "-c", program]) for _ in range(6)][1:]  # the first writes byte code
    return {
        "ms over asyncio": min(one["seconds"] for one in said) * 1000,
        "MB over asyncio": min(one["kb"] for one in said) / 1024,
    }


@one_row
def installed(stage: Stage, contender: Contender, size: Size) -> Figures:
    if not contender.is_peer:
        names = ("ardiq-core", "ardiq-client", "msgpack")
        files = [Path(str(file.locate())) for name in names for file in distribution(name).files or ()]
        return {"MB": _megabytes(files), "distributions": len(names)}
    packages = next((contender.python.parent.parent / "lib").glob("*/site-packages"))
    files = [path for path in packages.rglob("*") if path.is_file()]
    return {"MB": _megabytes(files), "distributions": len(list(packages.glob("*.dist-info")))}


def _megabytes(files: list[Path]) -> float:
    return sum(path.stat().st_size for path in files if path.exists() and path.suffix != ".pyc") / 1e6


SCENARIOS = (
    Scenario("counters", "What one job costs in its whole life", (OURS, FLOOR, *PEERS), counters),
    Scenario("import", "Import of the client", (OURS, *PEERS), imported),
    Scenario("size", "Installed size of the client", (OURS, *PEERS), installed),
)

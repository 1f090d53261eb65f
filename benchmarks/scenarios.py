"""What is measured. A scenario is a function that runs one contender once and gives its figures.

`@scenario` says who takes part. All figures of one round are taken with nothing else running; the harness goes through
the contenders in turn, round by round, so that a machine that changes its speed changes it for all.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from benchmarks.contenders import ALL, OURS, PEERS, Contender, ceiling
from benchmarks.report import Figures
from benchmarks.stage import Stage

Run = Callable[[Stage, Contender, "Size"], Figures]


@dataclass(frozen=True)
class Size:
    """How much work a run is: `full` for figures, `quick` to see that everything runs."""

    jobs: int
    peer_jobs: int
    one_by_one: int
    round_trips: int
    naps: int
    crunches: int
    backlogs: tuple[int, ...]
    due: int


FULL = Size(50_000, 1_000, 500, 300, 1_000, 500, (10_000, 100_000, 1_000_000), 100_000)
QUICK = Size(2_000, 200, 50, 20, 200, 50, (1_000, 5_000), 2_000)


@dataclass(frozen=True)
class Scenario:
    """A run, who takes part, and what it shows."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    run: Run
    once: bool = False
    """Its figures do not depend on how fast the machine is at the moment: one round is enough."""


SCENARIOS: list[Scenario] = []

MOST = {"round trips/job": 0.1, "commands/job": 4.0, "script calls/job": 0.1}
"""What a job of ours may cost at most when drained in bulk. These are counted, not timed: more is a regression."""


def scenario(name: str, title: str, contenders: tuple[Contender, ...], *, once: bool = False) -> Callable[[Run], Run]:
    """Enter a run into `SCENARIOS`."""

    def enter(run: Run) -> Run:
        SCENARIOS.append(Scenario(name, title, contenders, run, once))
        return run

    return enter


def jobs_for(contender: Contender, size: Size) -> int:
    """Peers get fewer jobs: what they take per job does not depend on it, and the run would take minutes."""
    return size.peer_jobs if contender.is_peer else size.jobs


def drained(
    stage: Stage, contender: Contender, task: str, count: int, concurrency: int, payload: int = 0, processes: int = 1
) -> Figures:
    """Enqueue `count` jobs, then start the workers and measure from the first task to the last."""
    stage.produce(contender, "bulk", task, count, payload)
    total = count + 1  # and the one with which the producer warmed up
    with ExitStack() as stack:
        workers = [stack.enter_context(stage.worker(contender, concurrency)) for _ in range(processes)]
        stage.wait_for(workers, total)
        seconds = (max(one.last_ns for one in workers) - min(one.first_ns for one in workers if one.count)) / 1e9
        figures = {"jobs/s": (total - 1) / seconds}
        if processes == 1:
            figures["worker CPU us/job"] = workers[0].cpu_s() / total * 1e6
            figures["worker RSS MB"] = workers[0].status("VmRSS") / 1024
    return figures


def counted(stage: Stage, contender: Contender, count: int) -> Figures:
    """What one job costs the server in its whole life, drained in bulk."""
    before = stage.counters()
    stage.produce(contender, "bulk", "noop", count, 0)
    with stage.worker(contender, contender.threads or 100) as worker:
        stage.wait_for([worker], count + 1)
        spent = stage.counters().since(before)
        wake_ups = worker.wake_ups()
    figures = {
        "Redis CPU us/job": spent.cpu_s / count * 1e6,
        "round trips/job": spent.reads / count,
        "commands/job": sum(spent.calls.values()) / count,
        "bytes in/job": spent.bytes_in / count,
        "bytes out/job": spent.bytes_out / count,
        "worker wake-ups/job": wake_ups / count,
    }
    scripts = spent.calls.get("evalsha", 0)
    return {**figures, "script calls/job": scripts / count} if scripts else figures


@scenario("drain", "Drain of no-op tasks, concurrency 100", ALL)
def drain(stage: Stage, contender: Contender, size: Size) -> Figures:
    return drained(stage, contender, "noop", jobs_for(contender, size), contender.threads or 100)


@scenario("drain-default", "Drain of no-op tasks, default settings (concurrency 16)", (OURS,))
def drain_default(stage: Stage, contender: Contender, size: Size) -> Figures:
    return drained(stage, contender, "noop", size.jobs, 16)


@scenario("drain-blocking", "Drain of no-op `def` tasks", tuple(one for one in ALL if "blocking" in one.tasks))
def drain_blocking(stage: Stage, contender: Contender, size: Size) -> Figures:
    return drained(stage, contender, "blocking", jobs_for(contender, size) // 2, contender.threads or 100)


@scenario("ceiling", "The queue's own scripts without Python", (OURS,))
def without_python(stage: Stage, _: Contender, size: Size) -> Figures:
    program = str(ceiling())
    enqueued = stage.say([program, stage.url, "enqueue", str(size.jobs)])
    drained = stage.say([program, stage.url, "drain", str(size.jobs)])
    return {"enqueue jobs/s": size.jobs / enqueued["seconds"], "drain jobs/s": size.jobs / drained["seconds"]}


@scenario("bulk", "Bulk enqueue", ALL)
def bulk(stage: Stage, contender: Contender, size: Size) -> Figures:
    count = jobs_for(contender, size)
    said = stage.produce(contender, "bulk", "noop", count, 0)
    return {
        "jobs/s": count / said["seconds"],
        "producer CPU us/job": said["cpu_s"] / count * 1e6,
        "producer RSS MB": said["rss_kb"] / 1024,
    }


@scenario("gathered", "Single enqueues, a thousand under way", tuple(one for one in ALL if one.gathers))
def gathered(stage: Stage, contender: Contender, size: Size) -> Figures:
    count = max(1000, jobs_for(contender, size) // 5)
    return {"jobs/s": count / stage.produce(contender, "gathered", "noop", count)["seconds"]}


@scenario("sequential", "Single enqueues, one after another", (OURS, *PEERS))
def sequential(stage: Stage, contender: Contender, size: Size) -> Figures:
    said = stage.produce(contender, "sequential", "noop", size.one_by_one)
    return {"jobs/s": size.one_by_one / said["seconds"]}


@scenario("round-trip", "Idle round trip, enqueue to result in hand", (OURS, *PEERS))
def round_trip(stage: Stage, contender: Contender, size: Size) -> Figures:
    # These two poll, twice and once a second.
    count = min(size.round_trips, 10) if contender.name in ("arq", "saq") else size.round_trips
    with stage.worker(contender, contender.threads or 100) as worker:
        stage.produce(contender, "bulk", "noop", 1, 0)
        stage.wait_for([worker], 2)
        each = sorted(stage.produce(contender, "round_trips", count)["each"])
    figures = {"p50 ms": statistics.median(each) * 1000, "p99 ms": each[int(len(each) * 0.99)] * 1000}
    if contender is OURS:
        figures["PING p50 ms"] = _ping_ms(stage)
    return figures


def _ping_ms(stage: Stage) -> float:
    """The median of a blocking client's PING."""
    program = (
        "import json, os, statistics, time, redis\n"
        "server, each = redis.Redis.from_url(os.environ['BENCH_URL']), []\n"
        "for _ in range(1000):\n"
        "    started = time.perf_counter()\n"
        "    server.ping()\n"
        "    each.append(time.perf_counter() - started)\n"
        "print(json.dumps({'ms': statistics.median(each) * 1000}))"
    )
    return float(stage.say([sys.executable, "-c", program])["ms"])


@scenario("nap-10", "100 ms sleeps at concurrency 10", (OURS, *PEERS))
def nap_10(stage: Stage, contender: Contender, size: Size) -> Figures:
    return _naps(stage, contender, 10, size)


@scenario("nap-100", "100 ms sleeps at concurrency 100", (OURS, *PEERS))
def nap_100(stage: Stage, contender: Contender, size: Size) -> Figures:
    return _naps(stage, contender, 100, size)


@scenario("nap-1000", "100 ms sleeps at concurrency 1000", (OURS, *PEERS))
def nap_1000(stage: Stage, contender: Contender, size: Size) -> Figures:
    return _naps(stage, contender, 1000, size)


def _naps(stage: Stage, contender: Contender, concurrency: int, size: Size) -> Figures:
    concurrency = min(concurrency, contender.most_concurrency or concurrency)
    count = min(size.naps, 20 * concurrency) if concurrency < 1000 else 5 * size.naps
    figures = drained(stage, contender, "nap", count, concurrency)
    return {"jobs/s": figures["jobs/s"], "of the possible": figures["jobs/s"] / (concurrency / 0.1)}


@scenario("crunch-1", "Two milliseconds of hashing, one worker process", (OURS, *PEERS))
def crunch_1(stage: Stage, contender: Contender, size: Size) -> Figures:
    figures = drained(stage, contender, "crunch", size.crunches, contender.threads or 16)
    return {"jobs/s": figures["jobs/s"]}


@scenario("crunch-2", "Two milliseconds of hashing, two worker processes", (OURS, *PEERS))
def crunch_2(stage: Stage, contender: Contender, size: Size) -> Figures:
    return drained(stage, contender, "crunch", size.crunches, contender.threads or 16, processes=2)


def _payload(name: str, label: str, payload: int, share: int) -> None:
    @scenario(name, f"Payloads of {label}: enqueue and drain", (OURS, *PEERS))
    def carried(stage: Stage, contender: Contender, size: Size) -> Figures:
        count = max(20, (jobs_for(contender, size) if payload < 64_000 else size.peer_jobs) // share)
        enqueued = stage.produce(contender, "bulk", "noop", count, payload)
        with stage.worker(contender, contender.threads or 100) as worker:
            stage.wait_for([worker], count + 1)
            seconds = (worker.last_ns - worker.first_ns) / 1e9
        return {"enqueue jobs/s": count / enqueued["seconds"], "drain jobs/s": count / seconds}


_payload("payload-100b", "100 B", 100, 2)
_payload("payload-1kb", "1 KB", 1_000, 2)
_payload("payload-64kb", "64 KB", 64_000, 5)
_payload("payload-1mb", "1 MB", 1_000_000, 50)


@scenario("growth", "Cost per job by backlog", (OURS,))
def growth(stage: Stage, contender: Contender, size: Size) -> Figures:
    figures: Figures = {}
    for backlog in size.backlogs:
        stage.cli("FLUSHALL")
        before = stage.counters()
        stage.produce(contender, "bulk", "noop", backlog, 0)
        with stage.worker(contender, 100) as worker:
            stage.wait_for([worker], backlog + 1)
            figures[f"jobs/s at {backlog:,}"] = backlog / ((worker.last_ns - worker.first_ns) / 1e9)
        figures[f"Redis CPU us/job at {backlog:,}"] = stage.counters().since(before).cpu_s / backlog * 1e6
    return figures


@scenario("counters", "What one job costs in its whole life", ALL)
def counters(stage: Stage, contender: Contender, size: Size) -> Figures:
    return counted(stage, contender, jobs_for(contender, size))


@scenario("lateness", "Delayed jobs on an idle worker", (OURS,))
def lateness(stage: Stage, contender: Contender, size: Size) -> Figures:
    """One job per enqueue, each due 200 ms later, and then many that are all due in one millisecond."""
    with stage.worker(contender, 100) as worker:
        stage.produce(contender, "bulk", "noop", 1, 0)
        stage.wait_for([worker], 2)
        stage.produce(contender, "delayed", 100, int(time.time() * 1000) + 500)
        stage.wait_for([worker], 102)
        few = worker.late_us / 1000
        due_ms = int(time.time() * 1000) + (15_000 if size.due > 10_000 else 3_000)
        stage.produce(contender, "delayed", size.due, due_ms)
        slowest = _slowest_ping_ms(stage, due_ms)
        stage.wait_for([worker], 102 + size.due)
    return {"100 due at once, latest ms": few, f"{size.due:,} due at once, slowest PING meanwhile ms": slowest}


def _slowest_ping_ms(stage: Stage, due_ms: int) -> float:
    """The slowest answer in the two seconds after `due_ms`, as seen by another client."""
    slowest = 0.0
    while (now := time.time() * 1000) < due_ms + 2_000:
        started = time.perf_counter()
        stage.cli("PING")
        if now > due_ms - 100:
            slowest = max(slowest, (time.perf_counter() - started) * 1000)
    return slowest


@scenario("import", "Import of the client", (OURS, *PEERS))
def imported(stage: Stage, contender: Contender, size: Size) -> Figures:
    """Beyond an interpreter that has asyncio: best of five processes, since others only ever make it slower."""
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


@scenario("size", "Installed size of the client", (OURS, *PEERS), once=True)
def installed(stage: Stage, contender: Contender, size: Size) -> Figures:
    if contender is OURS:
        names = ("ardiq-core", "ardiq-client", "msgpack")
        files = [Path(str(file.locate())) for name in names for file in distribution(name).files or ()]
        return {"MB": _megabytes(files), "distributions": len(names)}
    packages = next((contender.python.parent.parent / "lib").glob("*/site-packages"))
    files = [path for path in packages.rglob("*") if path.is_file()]
    return {"MB": _megabytes(files), "distributions": len(list(packages.glob("*.dist-info")))}


def _megabytes(files: list[Path]) -> float:
    return sum(path.stat().st_size for path in files if path.exists() and path.suffix != ".pyc") / 1e6

"""Measures how fast workers drain waiting jobs, with tasks that do nothing, sleep or compute."""

from contextlib import ExitStack

from benchmarks.contenders import ACTORS, ALL, OURS, PEERS, Contender
from benchmarks.report import Figures
from benchmarks.scenario import Run, Scenario, Size, jobs_for, longest_call, one_row
from benchmarks.stage import Stage


def drained(stage: Stage, contender: Contender, task: str, count: int, processes: int = 1) -> Figures:
    """Enqueue `count` jobs, then start the workers and measure from the first task to the last."""
    stage.produce(contender, "bulk", task, count, 0)
    total = count + 1  # including the one with which the producer warmed up
    with ExitStack() as stack:
        workers = [stack.enter_context(stage.worker(contender)) for _ in range(processes)]
        stage.wait_for(workers, total)
        seconds = (max(one.last_ns for one in workers) - min(one.first_ns for one in workers if one.count)) / 1e9
        figures = {"jobs/s": (total - 1) / seconds}
        if processes == 1:
            figures["worker CPU µs/job"] = workers[0].cpu_s() / total * 1e6
            figures["worker RSS MB"] = workers[0].status("VmRSS") / 1024
    return figures


@one_row
def drain(stage: Stage, contender: Contender, size: Size) -> Figures:
    figures = drained(stage, contender, "noop", jobs_for(contender, size))
    return figures if contender.is_peer else {**figures, **longest_call(stage, contender.name)}


@one_row
def drain_blocking(stage: Stage, contender: Contender, size: Size) -> Figures:
    return drained(stage, contender, "blocking", jobs_for(contender, size) // 2)


def naps(concurrency: int) -> Run:
    @one_row
    def run(stage: Stage, contender: Contender, size: Size) -> Figures:
        sleeper = contender.at(concurrency)
        count = min(size.naps, 20 * sleeper.concurrency) if sleeper.concurrency < 1000 else 5 * size.naps
        rate = drained(stage, sleeper, "nap", count)["jobs/s"]
        return {"jobs/s": rate, "share of the maximum": rate / (sleeper.concurrency / 0.1)}

    return run


def crunches(processes: int) -> Run:
    @one_row
    def run(stage: Stage, contender: Contender, size: Size) -> Figures:
        at_once, alone_s = contender.at(min(16, contender.concurrency)), _alone_s(stage, contender)
        rate = drained(stage, at_once, "crunch", size.crunches, processes)["jobs/s"]
        return {"jobs/s": rate, "share of the maximum": rate * alone_s / processes}

    return run


def _alone_s(stage: Stage, contender: Contender) -> float:
    """Return how long one task's hashing takes in a program that does nothing else."""
    program = (
        "import json, time\n"
        "from work import crunch\n"
        "crunch()\n"
        "started = time.perf_counter()\n"
        "for _ in range(200):\n"
        "    crunch()\n"
        "print(json.dumps({'s': (time.perf_counter() - started) / 200}))"
    )
    return float(stage.say([str(contender.python), "-c", program], {"PYTHONPATH": str(ACTORS)})["s"])


QUEUES = (OURS, *PEERS)
SCENARIOS = (
    Scenario("drain", "Drain of no-op tasks, concurrency 100, and 16 by default", ALL, drain),
    Scenario(
        "drain-blocking",
        "Drain of no-op `def` tasks",
        tuple(one for one in QUEUES if "blocking" in one.tasks),
        drain_blocking,
    ),
    Scenario("nap-10", "100 ms sleeps at concurrency 10", QUEUES, naps(10), shown_by="nap-100"),
    Scenario("nap-100", "100 ms sleeps at concurrency 100", QUEUES, naps(100)),
    Scenario("nap-1000", "100 ms sleeps at concurrency 1000", QUEUES, naps(1000), shown_by="nap-100"),
    Scenario("crunch-1", "Two milliseconds of hashing, one worker process", QUEUES, crunches(1)),
    Scenario("crunch-2", "Two milliseconds of hashing, two worker processes", QUEUES, crunches(2), shown_by="crunch-1"),
)

"""Measures how fast producers enqueue, in bulk and one by one, and how the size of jobs affects
it.
"""

from benchmarks.contenders import CEILING, FLOOR, OURS, PEERS, Contender
from benchmarks.report import Figures
from benchmarks.scenario import Run, Scenario, Size, jobs_for, longest_call, one_row
from benchmarks.stage import Stage


@one_row
def bulk(stage: Stage, contender: Contender, size: Size) -> Figures:
    count = jobs_for(contender, size)
    said = stage.produce(contender, "bulk", "noop", count, 0)
    return {
        "jobs/s": count / said["seconds"],
        "producer CPU µs/job": said["cpu_s"] / count * 1e6,
        "producer RSS MB": said["rss_kb"] / 1024,
    }


@one_row
def gathered(stage: Stage, contender: Contender, size: Size) -> Figures:
    count = max(1000, jobs_for(contender, size) // 5)
    return {"jobs/s": count / stage.produce(contender, "gathered", "noop", count)["seconds"]}


@one_row
def sequential(stage: Stage, contender: Contender, size: Size) -> Figures:
    said = stage.produce(contender, "sequential", "noop", size.one_by_one)
    return {"jobs/s": size.one_by_one / said["seconds"]}


def payload(length: int) -> Run:
    """Enqueue and drain payloads of `length` bytes. Of large ones, use as many as for peers."""

    @one_row
    def run(stage: Stage, contender: Contender, size: Size) -> Figures:
        count = jobs_for(contender, size) // 2 if length < 64_000 else size.peer_jobs // 5
        enqueued = stage.produce(contender, "bulk", "noop", count, length)
        with stage.worker(contender) as worker:
            stage.wait_for([worker], count + 1)
            seconds = (worker.last_ns - worker.first_ns) / 1e9
        figures = {"enqueue jobs/s": count / enqueued["seconds"], "drain jobs/s": count / seconds}
        return figures if contender.is_peer else {**figures, **longest_call(stage, contender.name)}

    return run


QUEUES = (OURS, *PEERS)
SCENARIOS = (
    Scenario("bulk", "Bulk enqueue", (OURS, FLOOR, CEILING, *PEERS), bulk),
    Scenario(
        "gathered",
        "Single enqueues, a thousand in flight",
        tuple(one for one in QUEUES if one.gathers),
        gathered,
    ),
    Scenario("sequential", "Single enqueues, one after another", QUEUES, sequential),
    Scenario("payload-100b", "Payloads of 100 B: enqueue and drain", QUEUES, payload(100), "payload-1mb"),
    Scenario("payload-1kb", "Payloads of 1 KB: enqueue and drain", QUEUES, payload(1_000), "payload-1mb"),
    Scenario("payload-64kb", "Payloads of 64 KB: enqueue and drain", QUEUES, payload(64_000), "payload-1mb"),
    Scenario("payload-1mb", "Payloads of 1 MB: enqueue and drain", QUEUES, payload(1_000_000)),
)

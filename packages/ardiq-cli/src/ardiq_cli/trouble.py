"""What is wrong with a queue, in sentences that say what to do.

They are derived from what `Ardiq.inspect` returns.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ardiq.printable import printable
from ardiq_cli.layout import LONGEST_NAME, LONGEST_WORKER_ID, shorten

if TYPE_CHECKING:
    from ardiq import TaskInfo
    from ardiq.inspection import QueueState, WorkerState

_MOST_WORKERS = 1000
"""`Ardiq.inspect` returns at most this many workers, so others may be missing."""


def of_queue(state: "QueueState") -> list[str]:
    """Return a sentence for each thing that needs attention."""
    name, found = state["name"], list[str]()
    if not state["workers"] and state["waiting"]:
        found.append(f"{_jobs(state['waiting'])} and no worker is running. Start one: ardiq run MODULE:APP")
    found += of_lanes(state)
    found += [of_worker(worker) for worker in state["workers"] if worker["lease_left_ms"] < 0]
    if state["dead"]:
        letters = "1 dead letter" if state["dead"] == 1 else f"{state['dead']} dead letters"
        found.append(f"{letters}. To see why: ardiq inspect jobs --queue {name} --state dead")
    return [f"queue {name}: {one}" for one in found]


def of_lanes(state: "QueueState") -> list[str]:
    """Return a sentence for each lane that has jobs and that no worker serves, if there are
    workers.
    """
    return [
        f"{_jobs(lane['waiting'] + lane['held'])} in lane {shorten(printable(lane['lane']), LONGEST_NAME)}, which no worker serves. "
        "Add the lane to the `priorities` of a worker's app"
        for lane in state["lanes"]
        if state["workers"] and lane["workers"] == 0 and lane["waiting"] + lane["held"] > 0
    ]


def of_worker(worker: "WorkerState") -> str:
    """Describe a worker whose lease has expired."""
    seconds = -worker["lease_left_ms"] / 1000
    return (
        f"worker {shorten(printable(worker['id']), LONGEST_WORKER_ID)} has not renewed its lease, which expired {seconds:.0f} s ago. It has died, is "
        "frozen, or is cut off. If another worker of the queue is running, it will take over the jobs "
        f"({worker['held']} at the last renewal)"
    )


def of_job(job: "TaskInfo", workers: "Sequence[WorkerState]") -> str:
    """Describe what an unfinished job waits for, and what is wrong with it; empty if nothing is."""
    notes: list[str] = []
    if job.dependencies:
        rest = len(job.dependencies) - 1
        notes.append(f"waits for {printable(job.dependencies[0])}" + (f" and {rest} more" if rest else ""))
    is_held = any(worker["id"] == job.worker_id and worker["lease_left_ms"] >= 0 for worker in workers)
    if job.worker_id is not None and not is_held and len(workers) < _MOST_WORKERS:
        notes.append("its worker has died or is frozen; another worker will run it again")
    if job.deaths:
        count = "1 worker process" if job.deaths == 1 else f"{job.deaths} worker processes"
        notes.append(f"{count} died while running it")
    if job.misses:
        times = "once" if job.misses == 1 else f"{job.misses} times"
        notes.append(
            f"returned {times} by workers that do not have its task or cannot read its arguments: start a worker that "
            "has the task, or see their log"
        )
    return "; ".join(notes)


def _jobs(count: int) -> str:
    return "1 job is waiting" if count == 1 else f"{count} jobs are waiting"

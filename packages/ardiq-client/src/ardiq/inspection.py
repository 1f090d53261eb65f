"""The types of what `app.inspect()` returns and `app.jobs()` accepts.

Only type checkers load this module.
"""

from __future__ import annotations

from typing import Literal, TypedDict

JobState = Literal["queued", "scheduled", "running", "dead"]
"""The states that `jobs` accepts."""


class LaneState(TypedDict):
    """One lane.

    `waiting` counts jobs that no worker has fetched, `held` those that a worker has fetched and not
    finished. `workers` counts the workers that serve the lane; it is None if that is not known,
    because a worker does not say what it serves.
    """

    lane: str
    waiting: int
    held: int
    workers: int | None


class WorkerState(TypedDict):
    """One worker, as of its last sign of life.

    `held` counts the jobs that it has fetched and not finished, the `running` ones included.
    `lease_left_ms` is negative if the lease has expired: the worker is frozen, cut off, or dead.
    `lanes` are those that it serves, highest first.
    """

    id: str
    host: str
    pid: int
    concurrency: int
    prefetch: int
    held: int
    running: int
    started_ms: int
    lease_left_ms: int
    version: str
    lanes: list[str]


class QueueState(TypedDict):
    """A queue at one moment.

    The counts overlap: `waiting` counts all jobs that have not started, so it includes the
    `scheduled` ones, and `unfinished` is `waiting` and `running` together. `lanes` are in the order
    in which workers serve them.
    """

    name: str
    lanes: list[LaneState]
    scheduled: int
    running: int
    dead: int
    unfinished: int
    waiting: int
    workers: list[WorkerState]
    now_ms: int

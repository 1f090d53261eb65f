"""The types of what `app.inspect()` returns and `app.jobs()` accepts.

Only type checkers load this module.
"""

from __future__ import annotations

from typing import Literal, TypedDict

JobState = Literal["queued", "scheduled", "running", "dead"]
"""The states that `jobs` accepts."""


class LaneState(TypedDict):
    """The state of one lane.

    Attributes:
        lane: The name of the lane.
        waiting: How many jobs no worker has fetched yet.
        held: How many jobs a worker has fetched and not finished.
        workers: How many workers serve the lane. None if that is not known: a worker of an earlier
            version does not say which lanes it serves, or there are more than 1,000 workers.
    """

    lane: str
    waiting: int
    held: int
    workers: int | None


class WorkerState(TypedDict):
    """The state of one worker when it last reported to Redis.

    Attributes:
        id: The id of the worker.
        host: The name of its host.
        pid: The id of its process.
        concurrency: How many tasks it runs at the same time.
        prefetch: How many jobs it holds at most, including the running ones.
        held: How many jobs it has fetched and not finished, including the running ones.
        running: How many jobs it is running.
        started_ms: When it started, in epoch milliseconds.
        lease_left_ms: How long its lease is still valid, in milliseconds. A negative number means
            that the lease has expired: the worker is frozen, cut off, or dead.
        version: Its version of ArdiQ.
        lanes: The lanes that it serves, highest first.
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
    """The state of a queue at one moment. Some of the counts overlap.

    Attributes:
        name: The name of the queue.
        lanes: The lanes, in the order in which workers serve them.
        scheduled: How many jobs wait for their due time.
        running: How many jobs are running.
        dead: How many dead letters there are.
        unfinished: The sum of `waiting` and `running`.
        waiting: How many unfinished jobs are not running, including the `scheduled` ones.
        workers: The workers that hold a lease, or whose lease has expired and whose jobs no other
            worker has taken over yet; at most 1,000.
        now_ms: The time of this snapshot, in epoch milliseconds by the Redis clock.
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

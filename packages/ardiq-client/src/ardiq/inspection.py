"""The types of what `app.inspect()` returns and `app.jobs()` accepts.

Only type checkers load this module.
"""

from __future__ import annotations

from typing import Literal, TypedDict

JobState = Literal["queued", "scheduled", "running", "dead"]
"""The states that `jobs` accepts."""


class LaneState(TypedDict):
    """One lane: how many jobs wait in it, and how many of its jobs workers hold."""

    lane: str
    waiting: int
    held: int


class WorkerState(TypedDict):
    """One worker, as of the last renewal of its lease."""

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


class QueueState(TypedDict):
    """A queue at one moment.

    `waiting` counts the jobs that have not started; `unfinished` adds the running ones.
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

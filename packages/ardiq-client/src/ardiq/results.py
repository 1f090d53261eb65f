"""What can be learnt about a job: its status, a snapshot while it is unfinished, its result afterwards."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

R = TypeVar("R")


class TaskStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETE = "complete"
    NOT_FOUND = "not_found"


class TaskResult(NamedTuple, Generic[R]):
    """How a job ended. All times are epoch milliseconds by the Redis clock.

    `value` is what the task returned when `success`, else the text of its error. `start` is 0 for a job that
    never started. `tries` counts starts.
    """

    success: bool
    value: R
    tries: int
    enqueue_time: int
    start: int
    finish: int
    task_id: str = ""
    fn_name: str = ""
    worker_id: str = ""
    aborted: bool = False
    error_type: str | None = None
    traceback: str | None = None

    @property
    def duration_ms(self) -> int:
        """How long the last attempt ran; 0 when none started."""
        return self.finish - self.start if self.start else 0


class TaskInfo(NamedTuple):
    """A job that has not finished: queued, scheduled or running.

    `tries` counts starts, the running one included; `scheduled_at` is set while the job waits for its time.
    """

    task_id: str
    fn_name: str
    args: tuple[Any, ...]  # whatever the caller passed
    kwargs: dict[str, Any]
    enqueue_time: int
    tries: int
    status: TaskStatus
    scheduled_at: int | None
    headers: Mapping[str, str] = MappingProxyType({})
    dependencies: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()


class DeadJob(NamedTuple):
    """A job that was put aside because it cannot be run, and why. Its arguments are kept in Redis."""

    info: TaskInfo
    reason: str

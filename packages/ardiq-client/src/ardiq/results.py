"""What you can learn about a job: its status, a snapshot while it is unfinished, its result afterwards."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

R = TypeVar("R")


class TaskStatus(StrEnum):
    """The state of a job. `scheduled` jobs wait for their time; `not_found` means unknown or expired."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETE = "complete"
    NOT_FOUND = "not_found"


class TaskResult(NamedTuple, Generic[R]):
    """How a job ended. All times are in epoch milliseconds by the Redis clock.

    If `success` is true, `value` is what the task returned; otherwise it is the text of the error. `start` is 0 for a
    job that never started. `tries` counts starts. `aborted` is False for every job: jobs cannot be aborted.

    Example:
        ```python
        result = await job.result(timeout=10)
        if not result.success:
            print(result.error_type, result.value)
        ```
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
    """A snapshot of a job that is queued, scheduled or running. For a dead letter, its status is `complete`.

    `tries` counts starts, including the current run. `scheduled_at` is set while the job waits for its time.
    `dependencies` and `dependents` are always empty: jobs cannot depend on other jobs.
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
    """A dead letter: a job that no worker can run, and the reason. Redis keeps its arguments."""

    info: TaskInfo
    reason: str

"""What you can learn about a job: its status, a snapshot while it is unfinished, its result
afterwards.

The functions at the end convert the records that the engine returns.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from ardiq import _core
from ardiq.errors import SerializationError

if TYPE_CHECKING:
    from ardiq._encoding.codec import Codec
    from ardiq.app import Ardiq
    from ardiq_core.shapes import JobRecord, ResultRecord

R = TypeVar("R")


class TaskStatus(StrEnum):
    """The state of a job.

    `scheduled` jobs wait for their time; `not_found` means unknown or expired.
    """

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETE = "complete"
    NOT_FOUND = "not_found"


class TaskResult(NamedTuple, Generic[R]):
    """How a job ended. All times are in epoch milliseconds by the Redis clock.

    If `success` is true, `value` is what the task returned; otherwise it is the text of the error.
    `start` is 0 for a job that never started. `tries` counts starts. `aborted` is False for every
    job: jobs cannot be aborted.

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
    """A snapshot of a job that is queued, scheduled or running.

    For a dead letter, its status is `complete`.

    `tries` counts starts, including the current run. `scheduled_at` is set while the job waits for
    its time. `worker_id` and `start` (epoch milliseconds by the Redis clock) are set while it runs.
    `deaths` counts worker processes that died while they ran it, `misses` the times that a worker
    returned it because it does not know the task. `dependencies` and `dependents` are always empty:
    jobs cannot depend on other jobs.
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
    lane: str = ""
    worker_id: str | None = None
    start: int | None = None
    deaths: int = 0
    misses: int = 0


class DeadJob(NamedTuple):
    """A dead letter: a job that no worker can run, and the reason. Redis keeps its arguments."""

    info: TaskInfo
    reason: str


_STATUSES = frozenset(TaskStatus)


async def wait(app: Ardiq, job_id: str, timeout_ms: int | None) -> TaskResult[Any] | None:
    """Read the result of a job, or wait for it.

    Raises TimeoutError if a wait has ended without a result.
    """
    record = await app._connection.ask(_core.result(job_id, timeout_ms))
    if record is None and timeout_ms is not None:
        from ardiq.late import timed_out

        raise await timed_out(app, job_id, timeout_ms)
    return _result_of(app._codec, record)


def wait_sync(app: Ardiq, job_id: str, timeout_ms: int | None) -> TaskResult[Any] | None:
    """Do what `wait` does, in a thread without an event loop."""
    record = app._connection.ask_sync(_core.result(job_id, timeout_ms), "result", waits=bool(timeout_ms))
    if record is None and timeout_ms is not None:
        from ardiq.late import timed_out_sync

        raise timed_out_sync(app, job_id, timeout_ms)
    return _result_of(app._codec, record)


def _result_of(codec: Codec, record: ResultRecord | None) -> TaskResult[Any] | None:
    if record is None:
        return None
    value = record[1]
    # The fields of a record are those of `TaskResult`, in the same order.
    return TaskResult(record[0], codec.decode_value(value) if isinstance(value, bytes) else value, *record[2:])


def status_of(records: list[JobRecord]) -> TaskStatus:
    """Convert the engine's reply to a `TaskStatus`."""
    ((_id, status, *_rest),) = records
    return TaskStatus(status)


def info_of(codec: Codec, records: list[JobRecord]) -> TaskInfo | None:
    """Convert the engine's reply to a `TaskInfo`; None if the job is finished or unknown."""
    if status_of(records) in (TaskStatus.COMPLETE, TaskStatus.NOT_FOUND):
        return None
    return _snapshot(codec, records[0])


def jobs_of(codec: Codec, state: str, answer: list[Any]) -> list[TaskInfo] | list[DeadJob]:
    """Convert the engine's reply to the jobs in one state.

    A job whose arguments cannot be decoded here has none.
    """
    if state == "dead":
        letters = cast("list[tuple[JobRecord, str]]", answer)
        return [DeadJob(_snapshot(codec, record, lenient=True), reason) for record, reason in letters]
    return [_snapshot(codec, record, lenient=True) for record in cast("list[JobRecord]", answer)]


def _snapshot(codec: Codec, record: JobRecord, *, lenient: bool = False) -> TaskInfo:
    job_id, status, name, body, enqueued_ms, tries, due_ms, headers, lane, worker, start_ms, deaths, misses = record
    try:
        args, kwargs = codec.decode_call(body)
    except SerializationError:
        if not lenient:
            raise
        args, kwargs = (), {}
    known = TaskStatus(status) if status in _STATUSES else TaskStatus.NOT_FOUND
    return TaskInfo(
        *(job_id, name, args, kwargs, enqueued_ms, tries, known, due_ms, headers),
        lane=lane,
        worker_id=worker,
        start=start_ms,
        deaths=deaths,
        misses=misses,
    )

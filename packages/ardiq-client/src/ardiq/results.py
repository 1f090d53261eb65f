"""What you can learn about a job: its status, a snapshot while it is unfinished, and its result
after that.

The functions at the end convert the records that the engine returns.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from ardiq import _core
from ardiq.errors import BrokerRefusedError, SerializationError
from ardiq.printable import printable

if TYPE_CHECKING:
    from ardiq._encoding.codec import Codec
    from ardiq.app import Ardiq
    from ardiq_core.shapes import JobRecord, ResultRecord

R = TypeVar("R")


class TaskStatus(StrEnum):
    """The state of a job. The members are strings such as `"queued"`.

    Attributes:
        QUEUED: The job is waiting for a worker, or has been running for only a few milliseconds.
        SCHEDULED: The job is waiting for its due time, or for other jobs.
        RUNNING: The job is running.
        COMPLETE: The job has ended, and its result is still kept.
        NOT_FOUND: The job is unknown, or its result has expired or was not stored.
    """

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETE = "complete"
    NOT_FOUND = "not_found"


class TaskResult(NamedTuple, Generic[R]):
    """How a job ended. All times are in epoch milliseconds by the Redis clock.

    Attributes:
        success: Whether the task returned.
        value: What the task returned. After a failure, the repr of the exception, or a text such as
            `"expired"`.
        tries: How many attempts were made. A start that ended with a return to the queue is not
            counted.
        enqueue_time: When the job was enqueued or, if it waited for other jobs, became ready.
        start: When the last attempt started; 0 if the job never started.
        finish: When the job ended.
        task_id: The id of the job.
        fn_name: The name of the task.
        worker_id: The id of the worker that recorded the result.
        aborted: Whether the job was aborted. Then `success` is False, and `value` is `aborted`, or
            begins with it.
        error_type: The type of the exception, with its module; None if there was no exception.
        traceback: The traceback of the exception; None if there was none.

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
        """How long the last attempt ran; 0 if the job never started."""
        return self.finish - self.start if self.start else 0


class TaskInfo(NamedTuple):
    """A snapshot of a job that is queued, scheduled or running, or of a dead letter.

    All times are in epoch milliseconds by the Redis clock.

    Attributes:
        task_id: The id of the job.
        fn_name: The name of the task.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
        enqueue_time: When the job was enqueued or, if it waited for other jobs, became ready.
        tries: How many attempts there have been, including the current one. A start that ended with
            a return to the queue is not counted.
        status: The state of the job; `complete` for a dead letter.
        scheduled_at: When the job is due, while it waits for that time; otherwise None, also while
            it waits for other jobs.
        headers: The dict of str to str that was passed along with the job.
        dependencies: The ids of up to a hundred jobs that it waits for.
        dependents: The ids of up to a hundred jobs that wait for it.
        lane: The lane of the job.
        worker_id: The id of the worker that runs the job; None if it is not running.
        start: When the current run started; None if the job is not running.
        deaths: How many worker processes died while they ran the job.
        misses: How many times in a row a worker returned the job because it did not know the task
            or could not read the arguments.
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
    """A dead letter: a job that no worker can run. Redis keeps its arguments.

    Attributes:
        info: The job.
        reason: Why no worker can run it.
    """

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
    return result_of(app._codec, record)


def wait_sync(app: Ardiq, job_id: str, timeout_ms: int | None) -> TaskResult[Any] | None:
    """Blocking version of `wait`, for a thread without an event loop."""
    record = app._connection.ask_sync(_core.result(job_id, timeout_ms), "result", waits=bool(timeout_ms))
    if record is None and timeout_ms is not None:
        from ardiq.late import timed_out_sync

        raise timed_out_sync(app, job_id, timeout_ms)
    return result_of(app._codec, record)


def result_of(codec: Codec, record: ResultRecord | None) -> TaskResult[Any] | None:
    """Convert the engine's reply to a `TaskResult`."""
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

    If the arguments of a job cannot be read or decoded, its `args` and `kwargs` are empty.
    """
    if state == "dead":
        letters = cast("list[tuple[JobRecord, str]]", answer)
        return [DeadJob(_snapshot(codec, record, lenient=True), reason) for record, reason in letters]
    return [_snapshot(codec, record, lenient=True) for record in cast("list[JobRecord]", answer)]


def _snapshot(codec: Codec, record: JobRecord, *, lenient: bool = False) -> TaskInfo:
    job_id, status, name, body, enqueued_ms, tries, due_ms, headers, lane, worker, start_ms, deaths, misses, *links = (
        record
    )
    try:
        args, kwargs = _call(codec, job_id, body)
    except (BrokerRefusedError, SerializationError):
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
        dependencies=tuple(links[0]),
        dependents=tuple(links[1]),
    )


def call_of(codec: Codec, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode a call. Without arguments if this app cannot decode them."""
    try:
        return codec.decode_call(body)
    except SerializationError:
        return (), {}


def _call(codec: Codec, job_id: str, body: bytes | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if body is None:
        raise BrokerRefusedError(
            f"the arguments of job '{printable(job_id)}' exist, but cannot be read: every connection that carried them "
            "was cut. Raise the limit that they exceed: client-output-buffer-limit normal of the server, or a limit of "
            "a proxy in front of it"
        )
    return codec.decode_call(body)

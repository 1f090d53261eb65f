"""What can be asked about a queue and its jobs: the part of `Ardiq` that only looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, cast, get_args, overload

from ardiq.checks import job_id, one_of, patience_ms, whole
from ardiq.errors import SerializationError
from ardiq.options import Options
from ardiq.results import DeadJob, TaskInfo, TaskResult, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from ardiq.codec import Codec
    from ardiq.connection import Connection
    from ardiq_core import Mailbox
    from ardiq_core.shapes import JobRecord, ResultRecord

T = TypeVar("T")

JobState = Literal["queued", "scheduled", "running", "dead"]
"""The states that `jobs` accepts."""


class LaneState(TypedDict):
    """One lane: how many jobs wait in it and how many workers hold."""

    lane: str
    waiting: int
    held: int


class WorkerState(TypedDict):
    """One worker, as of its last sign of life."""

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
    """A queue at one moment. `waiting` are the jobs that have not started, `unfinished` those and the running ones."""

    name: str
    lanes: list[LaneState]
    scheduled: int
    running: int
    dead: int
    unfinished: int
    waiting: int
    workers: list[WorkerState]
    now_ms: int


class Inspection(Options):
    """Questions about the queue. The `_sync` forms are for code without an event loop and block the thread.

    On the thread of a running event loop they emit a RuntimeWarning, and waiting for a result raises RuntimeError.

    All raise BrokerError when Redis cannot be reached within `connect_timeout_s`.
    """

    _codec: Codec
    _connection: Connection

    @overload
    async def result(self, task_id: str, timeout: None = None) -> TaskResult[Any] | None: ...
    @overload
    async def result(self, task_id: str, timeout: float | timedelta) -> TaskResult[Any]: ...
    @overload
    async def result(self, task_id: str, timeout: float | timedelta | None) -> TaskResult[Any] | None: ...
    async def result(self, task_id: str, timeout: float | timedelta | None = None) -> TaskResult[Any] | None:
        """Return the result of a job, or wait for it.

        Args:
            task_id: The id of the job.
            timeout: How long to wait, in seconds. None (the default) returns at once.

        Returns:
            The result. None only without a timeout, if there is no result yet.

        Raises:
            TimeoutError: If no result arrives within `timeout`. ResultNotFoundError, a subclass, is raised as soon as it
                is clear that none can arrive.
            InvalidIdError: If `task_id` cannot be the id of a job.
            BrokerError: If Redis cannot be reached or refuses the request.
            SerializationError: If the value cannot be decoded.

        Example:
            ```python
            result = await app.result("invoice-42", timeout=10)
            ```
        """
        send, patience = _result_request(task_id, timeout)
        return self._read_result(await self._connection.ask(send), patience)

    @overload
    def result_sync(self, task_id: str, timeout: None = None) -> TaskResult[Any] | None: ...
    @overload
    def result_sync(self, task_id: str, timeout: float | timedelta) -> TaskResult[Any]: ...
    @overload
    def result_sync(self, task_id: str, timeout: float | timedelta | None) -> TaskResult[Any] | None: ...
    def result_sync(self, task_id: str, timeout: float | timedelta | None = None) -> TaskResult[Any] | None:
        """Do what `result` does, for code without an event loop. Blocks the thread.

        Raises:
            RuntimeError: If `timeout` is given and an event loop runs in this thread.
        """
        send, patience = _result_request(task_id, timeout)
        return self._read_result(self._connection.ask_sync(send, "result", waits=bool(patience)), patience)

    async def status(self, task_id: str) -> TaskStatus:
        """Where a job stands now; `not_found` when nothing is known of it, or no longer."""
        return _read_status(await self._connection.ask(_lookup(task_id)))

    def status_sync(self, task_id: str) -> TaskStatus:
        """As `status`, for code without an event loop."""
        return _read_status(self._connection.ask_sync(_lookup(task_id), "status"))

    async def info(self, task_id: str) -> TaskInfo | None:
        """A snapshot of a job while it is unfinished, else None."""
        return self._read_info(await self._connection.ask(_lookup(task_id)))

    def info_sync(self, task_id: str) -> TaskInfo | None:
        """As `info`, for code without an event loop."""
        return self._read_info(self._connection.ask_sync(_lookup(task_id), "info"))

    async def queue_size(self) -> int:
        """How many jobs wait to start, over all lanes, scheduled ones included; running ones do not count."""
        return cast(int, await self._connection.ask(_depth))

    def queue_size_sync(self) -> int:
        """As `queue_size`, for code without an event loop."""
        return cast(int, self._connection.ask_sync(_depth, "queue_size"))

    async def inspect(self) -> QueueState:
        """The state of the queue: its lanes, counts and workers."""
        state = await self._connection.ask(lambda port, ticket: port.inspect(ticket))
        return cast(QueueState, {"name": self.queue_name, **state})

    async def queues(self) -> list[str]:
        """The names of all queues that this Redis has seen."""
        return cast("list[str]", await self._connection.ask(lambda port, ticket: port.queues(ticket)))

    @overload
    async def jobs(self, state: Literal["dead"], limit: int = 100) -> list[DeadJob]: ...
    @overload
    async def jobs(self, state: Literal["queued", "scheduled", "running"], limit: int = 100) -> list[TaskInfo]: ...
    @overload
    async def jobs(self, state: JobState, limit: int = 100) -> list[TaskInfo] | list[DeadJob]: ...
    async def jobs(self, state: JobState, limit: int = 100) -> list[TaskInfo] | list[DeadJob]:
        """Return up to `limit` jobs in one state.

        The order depends on the state: `scheduled` jobs come by due time, `dead` ones from the newest to the oldest,
        `queued` ones from the oldest to the newest within their lane, and `running` ones in no particular order.

        If the arguments of a job cannot be decoded here, its `args` and `kwargs` are empty.

        Args:
            state: `"queued"`, `"scheduled"`, `"running"` or `"dead"`.
            limit: The most jobs to return, from 1 to 1,000,000.

        Returns:
            A list of `TaskInfo`; for `"dead"`, a list of `DeadJob`.

        Raises:
            ValueError: If the state is unknown, or `limit` is out of range.
            BrokerError: If Redis cannot be reached or refuses the request.

        Example:
            ```python
            for dead in await app.jobs("dead", limit=10):
                print(dead.info.task_id, dead.reason)
            ```
        """
        one_of("state", state, get_args(JobState))
        whole("limit", limit, 1, 1_000_000)
        answer = await self._connection.ask(lambda port, ticket: port.jobs(ticket, state, limit))
        if state == "dead":
            dead = cast("list[tuple[JobRecord, str]]", answer)
            return [DeadJob(self._info(record, lenient=True), reason) for record, reason in dead]
        return [self._info(record, lenient=True) for record in cast("list[JobRecord]", answer)]

    def _read_result(self, record: ResultRecord | None, patience: int | None) -> TaskResult[Any] | None:
        if record is None:
            if patience is None:
                return None
            raise TimeoutError(f"no result within {patience / 1000:g}s; the job may still run, or wait for a worker")
        value = record[1]
        # The record has the fields of the result, in their order.
        return TaskResult(
            record[0], self._codec.decode_value(value) if isinstance(value, bytes) else value, *record[2:]
        )

    def _read_info(self, records: list[JobRecord]) -> TaskInfo | None:
        record = records[0]
        if record[1] in (TaskStatus.COMPLETE, TaskStatus.NOT_FOUND):
            return None
        return self._info(record)

    def _info(self, record: JobRecord, *, lenient: bool = False) -> TaskInfo:
        task_id, status, name, payload, enqueue_time, tries, due, headers, _lane, _worker = record
        try:
            args, kwargs = self._codec.decode_call(payload)
        except SerializationError:
            if not lenient:
                raise
            args, kwargs = (), {}
        known = TaskStatus(status) if status in _STATUSES else TaskStatus.NOT_FOUND
        return TaskInfo(task_id, name, args, kwargs, enqueue_time, tries, known, due, headers)


_STATUSES = frozenset(TaskStatus)


def _result_request(
    task_id: str, timeout: float | timedelta | None
) -> tuple[Callable[[Mailbox, int], None], int | None]:
    job, patience = job_id(task_id), patience_ms(timeout)
    return lambda port, ticket: port.result(ticket, job, patience), patience


def _lookup(task_id: str) -> Callable[[Mailbox, int], None]:
    job = job_id(task_id)
    return lambda port, ticket: port.lookup(ticket, [job])


def _depth(port: Mailbox, ticket: int) -> None:
    port.depth(ticket)


def _read_status(records: list[JobRecord]) -> TaskStatus:
    return TaskStatus(records[0][1])

"""The app: options, the registry of tasks and schedules, and the way to the queue."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from ardiq import _core
from ardiq._core.connection import Connection, finalize
from ardiq._encoding.codec import Codec
from ardiq._functions.signature import UNKNOWN
from ardiq.checks import flag, job_id, one_of, only_known, patience_ms, task_name, whole
from ardiq.cron import Schedule, check_timing
from ardiq.dispatch import Prepared, TaskRef, chunks_of
from ardiq.job import Job
from ardiq.options import CoreOptions, Option, RunOptions, check_options, lane_index, shown
from ardiq.results import STATES, DeadJob, TaskInfo, TaskResult, TaskStatus, info_of, result_of, snapshot_of, status_of
from ardiq.running import Running, run
from ardiq.task import AsyncTask, SyncTask, Task, TaskOptions, check_schedulable, make_task

if TYPE_CHECKING:
    from datetime import timedelta

    from ardiq.decorator import TaskDecorator
    from ardiq.inspection import JobState, QueueState
    from ardiq.pending import PendingEnqueue
    from ardiq_core.shapes import JobRecord, ResultRecord


P = ParamSpec("P")
R = TypeVar("R")


class Ardiq:
    """A task queue: register functions with it, enqueue calls, run a worker.

    An app does no I/O when you create it. It connects on first use, and serves any number of event loops and threads.

    Args:
        redis_url: Where Redis is. Defaults to `$ARDIQ_REDIS_URL`, then to `redis://localhost:6379`.
        queue_name: The queue. Apps with the same name and Redis share a queue.
        priorities: The lanes, lowest first. Defaults to the single lane `default`.
        serializer: Replaces msgpack for arguments and results; goes together with `deserializer`.
        deserializer: The counterpart of `serializer`.
        cron_poll_s: The longest time between two looks at the schedules, in seconds.
        **core_options: The options of `ardiq.options.CoreOptions`.

    Raises:
        ValueError: If the value of an option is out of range or malformed.
        TypeError: If an option is unknown or has the wrong type.

    Example:
        ```python
        app = Ardiq(queue_name="emails", priorities=["low", "default", "high"])
        ```
    """

    redis_url = Option[str]("Where Redis is. The password, if any, is in it: do not log it.")
    queue_name = Option[str]("The queue: the namespace of all its keys in Redis.")
    default_priority = Option[str]("The lane of a task that names none.")
    serializer = Option[Callable[[Any], bytes] | None]("The app's own serializer, None for msgpack.")
    deserializer = Option[Callable[[bytes], Any] | None]("The app's own deserializer, None for msgpack.")
    cron_poll_s = Option[float]("Upper bound between looks at the schedule, in seconds.")
    concurrency = Option[int]("How many tasks a worker runs at once.")
    prefetch = Option[int]("How many jobs a worker holds, running ones included.")
    idle_timeout_ms = Option[int]("The lease: a job that is not renewed for this long may be taken over.")
    result_ttl_ms = Option[int]("How long results are kept: 0 not at all, negative for ever.")
    sync_concurrency = Option[int]("How many threads run `def` tasks.")
    shutdown_grace_s = Option[float]("How long a stopping worker lets tasks finish, in seconds.")
    max_payload_bytes = Option[int]("The largest encoded arguments that are sent.")
    connect_timeout_s = Option[float]("How long a call may try to reach Redis, in seconds.")
    allow_eviction = Option[bool](
        "Whether to work with a Redis that evicts keys, and so loses jobs, when its memory is full."
    )

    def __init__(
        self,
        redis_url: str | None = None,
        queue_name: str = "default",
        priorities: Sequence[str] | None = None,
        *,
        serializer: Callable[[Any], bytes] | None = None,
        deserializer: Callable[[bytes], Any] | None = None,
        cron_poll_s: float | timedelta = 1.0,
        **core_options: Unpack[CoreOptions],
    ) -> None:
        self._codec = Codec(serializer, deserializer)
        self._options = check_options(
            {
                "redis_url": redis_url,
                "queue_name": queue_name,
                "priorities": priorities,
                "serializer": serializer,
                "deserializer": deserializer,
                "cron_poll_s": cron_poll_s,
                **core_options,
            }
        )
        self._burst: bool = self._options.pop("burst")
        self._max_payload: int = self.max_payload_bytes
        self._lanes = {lane: index for index, lane in enumerate(self.priorities)}
        self._registry: dict[str, Task[..., Any]] = {}
        self._schedules: dict[str, Schedule] = {}
        self._running = Running()
        self._connection = Connection(
            self.redis_url,
            self.queue_name,
            self.priorities,
            self.connect_timeout_s,
            allow_eviction=self.allow_eviction,
        )
        finalize(self, self._connection)

    @property
    def priorities(self) -> list[str]:
        """The lanes, lowest first: a copy, the app's own list stays as it was checked."""
        return list(self._options["priorities"])

    @property
    def burst(self) -> bool:
        """Whether the worker returns when nothing waits, runs or is due. May be set while it runs."""
        return self._burst

    @burst.setter
    def burst(self, value: bool) -> None:
        self._burst = flag("burst", value)
        self._running.set_burst(value)

    @property
    def worker_id(self) -> str:
        """The id of this app's worker; during a run, that of its current incarnation."""
        return self._running.worker_id

    @property
    def tasks(self) -> list[str]:
        """The names of the registered tasks."""
        return list(self._registry)

    @overload
    def task(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload] - the first match counts
        self, fn: Callable[P, Awaitable[R]]
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, fn: Callable[P, R]) -> SyncTask[P, R]: ...
    @overload
    def task(self, fn: None = None, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def task(self, fn: Callable[..., Any] | None = None, **options: Unpack[TaskOptions]) -> Any:
        """Register a function as a task; as a decorator, bare or with options.

        `name`: default the function's. `max_retries`: after the first attempt. `backoff_ms`: base of the delay
        between attempts, 0 for a second; it grows with the square of the attempts. `timeout`: seconds per attempt.
        `priority`: the lane. `expire_ms`: drop a job that has not started this long after its enqueue; 0 never.
        `result_ttl_ms`: how long the result is kept, None as the app says, 0 not at all, negative for ever.
        `unique`: an enqueue with the same arguments as an unfinished job gives that job. `silent`: no log lines
        about its runs.

        Raises ValueError for a name that is taken or an unknown lane, TypeError for what cannot be a task.

            @app.task(max_retries=5, timeout=30)
            async def send_welcome(user_id: int) -> None: ...
        """

        def register(fn: Callable[..., Any]) -> Task[..., Any]:
            return self._register(make_task(self, fn, options))

        only_known("@app.task()", options, TaskOptions.__annotations__)
        return register if fn is None else register(fn)

    def cron(
        self,
        spec: str | None = None,
        *,
        every: timedelta | float | None = None,
        **options: Unpack[TaskOptions],
    ) -> TaskDecorator:
        """Register a task that is enqueued by itself; a decorator, with options as of `task`.

        Exactly one of `spec`, a cron expression in UTC, and `every`, seconds or a timedelta, aligned to the epoch.
        Raises TypeError otherwise, and ValueError for a bad expression.

            @app.cron("*/5 * * * *")
            async def refresh() -> None: ...
        """
        only_known("@app.cron()", options, TaskOptions.__annotations__)
        expression, every_ms = check_timing(spec, every)

        def register(fn: Callable[..., Any]) -> Task[..., Any]:
            task = make_task(self, fn, options)
            check_schedulable(task)
            self._register(task)
            self._schedules[task.name] = Schedule(task.name, expression, every_ms, task)
            return task

        return cast("TaskDecorator", register)

    def ref(self, name: str) -> TaskRef[..., Any]:
        """A task by its name only, for a service that has not its code. A registered task lends its settings."""
        task = self._registry.get(task_name(name))
        if task is None:
            return TaskRef(self, name, UNKNOWN, lane=self._lanes[self.default_priority])
        return TaskRef(self, name, task._signature, lane=task._lane, expire_ms=task.expire_ms, unique=task.unique)

    def send(self, name: str, /, *args: Any, **kwargs: Any) -> PendingEnqueue[Any]:
        """Enqueue a call of a task by its name; await what this returns to get its `Job`.

        job = await app.send("email.welcome", 42)
        """
        return self.ref(name).enqueue(*args, **kwargs)

    async def enqueue_many(self, calls: Iterable[Prepared[R]]) -> list[Job[R]]:
        """Enqueue many calls, a thousand to a round trip; their jobs in order. Each 250 are accepted as a whole.

        Of a generator the next thousand is taken, and encoded, while those before are under way: the fastest way to
        enqueue. When one raises, or Redis goes away, what was sent before stays enqueued.

            jobs = await app.enqueue_many(add.prepare(n, 1) for n in range(10_000))
        """
        ids = await self._connection.enqueue_many(chunks_of(self, calls))
        return [Job(self, job_id) for chunk in ids for job_id in chunk]

    def enqueue_many_sync(self, calls: Iterable[Prepared[R]]) -> list[Job[R]]:
        """As `enqueue_many`, for code without an event loop."""
        ids = self._connection.enqueue_many_sync(chunks_of(self, calls))
        return [Job(self, job_id) for chunk in ids for job_id in chunk]

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
        job, timeout_ms = job_id(task_id), patience_ms(timeout)
        return self._result(await self._connection.ask(_core.result(job, timeout_ms)), timeout_ms)

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
        job, timeout_ms = job_id(task_id), patience_ms(timeout)
        answer = self._connection.ask_sync(_core.result(job, timeout_ms), "result", waits=bool(timeout_ms))
        return self._result(answer, timeout_ms)

    async def status(self, task_id: str) -> TaskStatus:
        """Return the state of a job now; `not_found` if the job is unknown or its result has expired."""
        return status_of(await self._connection.ask(_core.lookup(job_id(task_id))))

    def status_sync(self, task_id: str) -> TaskStatus:
        """Do what `status` does, for code without an event loop. Blocks the thread."""
        return status_of(self._connection.ask_sync(_core.lookup(job_id(task_id)), "status"))

    async def info(self, task_id: str) -> TaskInfo | None:
        """Return a snapshot of a job, or None if the job is finished or unknown."""
        return info_of(self._codec, await self._connection.ask(_core.lookup(job_id(task_id))))

    def info_sync(self, task_id: str) -> TaskInfo | None:
        """Do what `info` does, for code without an event loop. Blocks the thread."""
        return info_of(self._codec, self._connection.ask_sync(_core.lookup(job_id(task_id)), "info"))

    async def queue_size(self) -> int:
        """Return how many jobs wait to start on all lanes. Scheduled jobs count, running ones do not."""
        return cast("int", await self._connection.ask(_core.depth))

    def queue_size_sync(self) -> int:
        """Do what `queue_size` does, for code without an event loop. Blocks the thread."""
        return cast("int", self._connection.ask_sync(_core.depth, "queue_size"))

    async def inspect(self) -> QueueState:
        """Return the state of the queue: its lanes, counts and workers."""
        state = await self._connection.ask(_core.inspect)
        return cast("QueueState", {"name": self.queue_name, **state})

    async def queues(self) -> list[str]:
        """Return the names of all queues that this Redis has seen."""
        return cast("list[str]", await self._connection.ask(_core.queues))

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
        one_of("state", state, STATES)
        whole("limit", limit, 1, 1_000_000)
        answer = await self._connection.ask(_core.jobs(state, limit))
        if state == "dead":
            dead = cast("list[tuple[JobRecord, str]]", answer)
            return [DeadJob(snapshot_of(self._codec, record, lenient=True), reason) for record, reason in dead]
        return [snapshot_of(self._codec, record, lenient=True) for record in cast("list[JobRecord]", answer)]

    def run(self, **overrides: Unpack[RunOptions]) -> Coroutine[Any, Any, None]:
        """Run a worker until `stop` is called, or, in burst mode, until nothing is left. May be called again.

        `concurrency`, `prefetch`, `sync_concurrency`, `shutdown_grace_s` and `burst` take the place of the app's own
        options for this run. From this call on, `stop` ends the run, also when what this returns has not been awaited
        yet. Raises TypeError for any other option, and WorkerNotInstalledError where only the client is installed.

            await app.run(concurrency=50)
        """
        only_known("app.run()", overrides, RunOptions.__annotations__)
        return run(self, self._running.last_stop, overrides)

    def stop(self) -> None:
        """Ask the worker to stop gracefully. You can call it from any thread, any number of times.

        It stops the current run, even before its first step. If there is no run, it does nothing.
        """
        self._running.stop()

    def _register(self, task: Task[..., Any]) -> Task[..., Any]:
        known = self._registry.get(task.name)
        if known is not None:
            raise ValueError(
                f"the name {task.name!r} is taken by the task at {known.source}; "
                f"give the one at {task.source} another with name="
            )
        self._registry[task.name] = task
        return task

    def _lane_index(self, lane: object) -> int:
        return lane_index(self._lanes, lane)

    def _result(self, record: ResultRecord | None, timeout_ms: int | None) -> TaskResult[Any] | None:
        if record is None and timeout_ms is not None:
            place = f"queue {self.queue_name!r} at {shown(self.redis_url)}"
            raise TimeoutError(
                f"no result within {timeout_ms / 1000:g}s from {place}; the job may still run, or wait for a worker"
            )
        return None if record is None else result_of(self._codec, record)

    def __repr__(self) -> str:
        # Without the URL: there may be a password in it.
        return f"<Ardiq queue={self.queue_name!r} priorities={self.priorities!r} tasks={len(self._registry)}>"

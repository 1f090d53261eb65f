"""The app: options, the registry of tasks and schedules, and the connection to the queue."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from ardiq import _core, results
from ardiq._core.connection import Connection, finalize
from ardiq._encoding.codec import Codec
from ardiq.bulk import chunks_of
from ardiq.checks import check_bool, check_job_id, check_known, check_new_attribute, check_task_name, check_timeout_ms
from ardiq.dispatch import Prepared, TaskRef, task_ref
from ardiq.job import Job
from ardiq.options import CoreOptions, Option, RunOptions, check_options, development_locator
from ardiq.running import Running, run
from ardiq.task import AsyncTask, SyncTask, Task, TaskOptions, task_decorator

if TYPE_CHECKING:
    from datetime import timedelta

    from ardiq.cron import CronOptions, StaticSchedule
    from ardiq.decorator import TaskDecorator
    from ardiq.inspection import JobState, QueueState
    from ardiq.pending import PendingEnqueue
    from ardiq.results import DeadJob, TaskInfo, TaskResult, TaskStatus
    from ardiq.schedules import Schedule, ScheduleInfo

P = ParamSpec("P")
R = TypeVar("R")


class Ardiq:
    """A task queue: register functions with it, enqueue calls, run a worker.

    An app does no I/O when you create it. It connects on first use, and serves any number of event
    loops and threads.

    Args:
        redis_url: Defaults to `$ARDIQ_REDIS_URL`, this project's running `ardiq dev`, or
            `redis://localhost:6379`.
        queue_name: The name of the queue. Apps with the same name and Redis share a queue.
        priorities: The lanes, lowest first. Defaults to the single lane `default`.
        serializer: Encodes arguments and results in place of msgpack. It needs a `deserializer`.
        deserializer: Decodes what `serializer` returns.
        cron_poll_s: The longest time between two checks of the schedules, in seconds.
        **core_options: Further options; see `ardiq.options.CoreOptions`.

    Raises:
        ValueError: If the value of an option is out of range or malformed.
        TypeError: If an option is unknown or has the wrong type.

    Example:
        ```python
        app = Ardiq(queue_name="emails", priorities=["low", "default", "high"])
        ```
    """

    redis_url = Option[str]("The URL of Redis. It contains the password, if there is one: do not log it.")
    queue_name = Option[str]("The name of the queue, and the namespace of its keys in Redis.")
    default_priority = Option[str]("The lane of tasks that do not set one.")
    serializer = Option[Callable[[Any], bytes] | None]("The app's own serializer, None for msgpack.")
    deserializer = Option[Callable[[bytes], Any] | None]("The app's own deserializer, None for msgpack.")
    cron_poll_s = Option[float]("The longest time between two checks of the schedules, in seconds.")
    concurrency = Option[int]("How many tasks a worker runs at once.")
    prefetch = Option[int]("How many jobs a worker holds, including the running ones.")
    idle_timeout_ms = Option[int]("The lease, in milliseconds. Unless a worker renews it, others take over its jobs.")
    result_ttl_ms = Option[int]("How long results are kept, in milliseconds. 0: not stored; negative: never expire.")
    sync_concurrency = Option[int]("How many threads run `def` tasks.")
    shutdown_grace_s = Option[float]("How long a stopping worker lets tasks finish, in seconds.")
    max_payload_bytes = Option[int]("The maximum size of the encoded arguments of a job, in bytes.")
    connect_timeout_s = Option[float]("How long a call may try to reach Redis, in seconds.")
    allow_eviction = Option[bool]("Whether to accept a Redis that evicts keys when it is full, and so loses jobs.")

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
        self._max_body: int = self.max_payload_bytes
        self._lanes = {lane: index for index, lane in enumerate(self.priorities)}
        self._registry: dict[str, Task[..., Any]] = {}
        self._schedules: dict[str, StaticSchedule] = {}
        self._running = Running()
        self._connection = Connection(self._options, development_locator(redis_url, self._options))
        finalize(self, self._connection)

    @property
    def priorities(self) -> list[str]:
        """A copy of the list of lanes, lowest first."""
        return list(self._options["priorities"])

    @property
    def burst(self) -> bool:
        """Whether the worker returns once no job is unfinished. You can set it while it runs."""
        return self._burst

    @burst.setter
    def burst(self, value: bool) -> None:
        self._burst = check_bool("burst", value)
        self._running.set_burst(value)

    @property
    def worker_id(self) -> str:
        """The id of this app's worker. It changes if the worker loses its lease."""
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
        """Register a function as a task. Use it as a decorator, with or without options.

        Args:
            fn: The function, `async def` or `def`.
            **options: `name`, `max_retries`, `backoff_ms`, `timeout`, `priority`, `expire_ms`,
                `result_ttl_ms`, `unique` and `silent`; see `ardiq.task.TaskOptions`.

        Raises:
            ValueError: If the name is taken, the app has no such lane, or a number is out of range.
            TypeError: If `fn` cannot be a task, or an option is unknown or has the wrong type.

        Example:
            ```python
            @app.task(max_retries=5, timeout=30)
            async def send_welcome(user_id: int) -> None: ...
            ```
        """
        return task_decorator(self, fn, options)

    def cron(
        self,
        spec: str | None = None,
        *,
        every: timedelta | float | None = None,
        **options: Unpack[CronOptions],
    ) -> TaskDecorator:
        """Register a task that workers enqueue on a schedule. Use it as a decorator.

        Args:
            spec: A cron expression, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
            every: An interval aligned to the epoch: seconds or a timedelta. Pass this or `spec`.
            **options: `tz`, `coalesce`, `max_schedule_drift`, and the options of `task`.

        Raises:
            TypeError: If you pass both or none of `spec` and `every`, or arguments are required.
            ValueError: If the expression is malformed or never matches, the time zone is unknown,
                the interval is out of range, or the task's name is longer than 230 characters.

        Example:
            ```python
            @app.cron("0 3 * * *", tz="Europe/Berlin")
            async def clean_up() -> None: ...
            ```
        """
        from ardiq.cron import register_cron  # most clients have no schedules

        return register_cron(self, spec, every, options)

    def schedule(self, name: str) -> Schedule[Any]:
        """Return the handle to the schedule with this name. This does no I/O."""
        from ardiq.schedules import Schedule  # few programs use schedules

        return Schedule(self, check_job_id(name, "the name of a schedule"))

    async def schedules(self) -> list[ScheduleInfo]:
        """Return all schedules of the queue, dynamic and static ones, by name."""
        from ardiq.schedules import infos

        return infos(self, await self._connection.ask(_core.schedules(None)))

    def schedules_sync(self) -> list[ScheduleInfo]:
        """Blocking version of `schedules`, for code without an event loop."""
        from ardiq.schedules import infos

        return infos(self, self._connection.ask_sync(_core.schedules(None), "schedules"))

    async def unschedule(self, name: str) -> bool:
        """Remove a dynamic schedule, as `Schedule.unschedule` does."""
        return await self.schedule(name).unschedule()

    def unschedule_sync(self, name: str) -> bool:
        """Blocking version of `unschedule`, for code without an event loop."""
        return self.schedule(name).unschedule_sync()

    def ref(self, name: str) -> TaskRef[..., Any]:
        """Return a task by its name, for a service that does not have its code.

        If this app has registered the task, its signature, lane, `expire_ms` and `unique` apply.
        """
        return task_ref(self, check_task_name(name))

    def send(self, name: str, /, *args: Any, **kwargs: Any) -> PendingEnqueue[Any]:
        """Enqueue a call of a task by its name; await the return value to get its `Job`.

        Example:
            ```python
            job = await app.send("email.welcome", 42)
            ```
        """
        return self.ref(name).enqueue(*args, **kwargs)

    async def enqueue_many(self, calls: Iterable[Prepared[R]]) -> list[Job[R]]:
        """Enqueue many calls, up to a thousand per round trip. Returns the jobs in the same order.

        A generator is the fastest way: it is consumed a thousand calls at a time while earlier ones
        are in flight. Redis accepts chunks of at most 250 calls, each completely or not at all. If
        the generator raises, or Redis cannot be reached, the jobs sent before stay enqueued.

        Raises:
            TypeError: If `calls` contains something that `prepare` did not return.
            ValueError: If a call was prepared with another app.
            BrokerError: If Redis cannot be reached or refuses a job.

        Example:
            ```python
            jobs = await app.enqueue_many(add.prepare(n, 1) for n in range(10_000))
            ```
        """
        ids = await self._connection.enqueue_many(chunks_of(self, calls))
        return [Job(self, job_id) for chunk in ids for job_id in chunk]

    def enqueue_many_sync(self, calls: Iterable[Prepared[R]]) -> list[Job[R]]:
        """Blocking version of `enqueue_many`, for code without an event loop."""
        ids = self._connection.enqueue_many_sync(chunks_of(self, calls))
        return [Job(self, job_id) for chunk in ids for job_id in chunk]

    @overload
    async def result(self, task_id: str, timeout: None = None) -> TaskResult[Any] | None: ...
    @overload
    async def result(self, task_id: str, timeout: float | timedelta) -> TaskResult[Any]: ...
    async def result(self, task_id: str, timeout: float | timedelta | None = None) -> TaskResult[Any] | None:
        """Return the result of a job, or wait for it.

        Returns and raises what `Job.result` does. Raises InvalidIdError if `task_id` is malformed.

        Args:
            task_id: The id of the job.
            timeout: How long to wait: seconds or a timedelta. None (the default) returns at once.
        """
        return await results.wait(self, check_job_id(task_id), check_timeout_ms(timeout))

    @overload
    def result_sync(self, task_id: str, timeout: None = None) -> TaskResult[Any] | None: ...
    @overload
    def result_sync(self, task_id: str, timeout: float | timedelta) -> TaskResult[Any]: ...
    def result_sync(self, task_id: str, timeout: float | timedelta | None = None) -> TaskResult[Any] | None:
        """Blocking version of `result`, for code without an event loop. See `Job.result_sync`."""
        return results.wait_sync(self, check_job_id(task_id), check_timeout_ms(timeout))

    async def abort(self, task_id: str, timeout: float | timedelta = 5.0) -> bool:
        """Abort a job, as `Job.abort` does. Raises InvalidIdError if `task_id` is malformed."""
        return bool(await self._connection.ask(_core.abort(task_id, timeout)))

    def abort_sync(self, task_id: str, timeout: float | timedelta = 5.0) -> bool:
        """Blocking version of `abort`, for code without an event loop."""
        return bool(self._connection.ask_sync(_core.abort(task_id, timeout), "abort", waits=bool(timeout)))

    async def status(self, task_id: str) -> TaskStatus:
        """Return the state of a job: `not_found` if it is unknown, or its result has expired or was
        not stored. Raises InvalidIdError or BrokerError, as `result` does.
        """
        return results.status_of(await self._connection.ask(_core.lookup(check_job_id(task_id))))

    def status_sync(self, task_id: str) -> TaskStatus:
        """Blocking version of `status`, for code without an event loop."""
        return results.status_of(self._connection.ask_sync(_core.lookup(check_job_id(task_id)), "status"))

    async def info(self, task_id: str) -> TaskInfo | None:
        """Return a snapshot of a job, or None if the job is finished or unknown.

        Raises InvalidIdError, BrokerError, or SerializationError if the arguments are undecodable.
        """
        return results.info_of(self._codec, await self._connection.ask(_core.lookup(check_job_id(task_id))))

    def info_sync(self, task_id: str) -> TaskInfo | None:
        """Blocking version of `info`, for code without an event loop."""
        return results.info_of(self._codec, self._connection.ask_sync(_core.lookup(check_job_id(task_id)), "info"))

    async def queue_size(self) -> int:
        """Return how many jobs are waiting or scheduled, over all lanes."""
        return cast("int", await self._connection.ask(_core.depth))

    def queue_size_sync(self) -> int:
        """Blocking version of `queue_size`, for code without an event loop."""
        return cast("int", self._connection.ask_sync(_core.depth, "queue_size"))

    async def inspect(self) -> QueueState:
        """Return the state of the queue: its lanes, counts and workers."""
        state = await self._connection.ask(_core.inspect)
        return cast("QueueState", {"name": self.queue_name, **state})

    async def queues(self) -> list[str]:
        """Return the names of all queues in this Redis."""
        return cast("list[str]", await self._connection.ask(_core.queues))

    @overload
    async def jobs(self, state: Literal["dead"], limit: int = 100) -> list[DeadJob]: ...
    @overload
    async def jobs(self, state: Literal["queued", "scheduled", "running"], limit: int = 100) -> list[TaskInfo]: ...
    async def jobs(self, state: JobState, limit: int = 100) -> list[TaskInfo] | list[DeadJob]:
        """Return up to `limit` jobs in one state.

        `scheduled` jobs are sorted by due time, `dead` ones from the newest to the oldest, `queued`
        ones from the oldest to the newest within their lane, and `running` ones not at all.

        If this app cannot read or decode the arguments of a job, its `args` and `kwargs` are empty.

        Args:
            state: `"queued"`, `"scheduled"`, `"running"` or `"dead"`.
            limit: The maximum number of jobs to return, from 1 to 1,000,000.

        Raises:
            ValueError: If the state is unknown, or `limit` is out of range.
            TypeError: If the state is not a str, or `limit` is not an int.
            BrokerError: If Redis cannot be reached or refuses the request.

        Example:
            ```python
            for dead in await app.jobs("dead", limit=10):
                print(dead.info.task_id, dead.reason)
            ```
        """
        answer = await self._connection.ask(_core.jobs(state, limit))
        return results.jobs_of(self._codec, state, answer)

    def run(self, **overrides: Unpack[RunOptions]) -> Coroutine[Any, Any, None]:
        """Run a worker until `stop` is called or, in burst mode, until no work is left.

        From this call on, `stop` ends the run, even if the return value has not been awaited yet.
        When the run has ended, you can call `run` again.

        Args:
            **overrides: Replace options of the app for this run: `concurrency`, `prefetch`,
                `sync_concurrency`, `shutdown_grace_s`, `burst`.

        Raises:
            TypeError: If an option is unknown or has the wrong type.
            ValueError: If the value of an option is out of range.
            WorkerNotInstalledError: If only the client is installed.
            BrokerError: If the worker cannot start, or gives up later.
            WorkerExhaustedError: If the process has run out of threads, memory or file descriptors.
            RuntimeError: If the app's worker is already running.

        Example:
            ```python
            await app.run(concurrency=50)
            ```
        """
        check_known("app.run()", overrides, RunOptions.__annotations__)
        return run(self, self._running.last_stop, overrides)

    def stop(self) -> None:
        """Ask the worker to stop gracefully. You can call it from any thread, any number of times.

        It stops the current run, even before its first step. If there is no run, it does nothing.
        """
        self._running.stop()

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            if type(self) is Ardiq and not hasattr(Ardiq, name):
                check_new_attribute(self, name)  # a subclass may have any
            super().__setattr__(name, value)

    def __repr__(self) -> str:
        # Without the URL: there may be a password in it.
        return f"<Ardiq queue={self.queue_name!r} priorities={self.priorities!r} tasks={len(self._registry)}>"

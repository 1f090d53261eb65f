"""The app: options, the registry of tasks and schedules, and the way to the queue."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, cast, overload

from ardiq.checks import did_you_mean, flag, kind_of, only_known, task_name
from ardiq.codec import Codec
from ardiq.connection import Connection, finalize
from ardiq.cron import Schedule, check_timing
from ardiq.dispatch import Prepared, TaskRef
from ardiq.errors import WorkerNotInstalledError
from ardiq.inspection import Inspection
from ardiq.job import Job
from ardiq.options import CoreOptions, RunOptions
from ardiq.signature import UNKNOWN
from ardiq.task import AsyncTask, SyncTask, Task, TaskOptions, check_schedulable, make_task

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Protocol

    from ardiq.decorator import TaskDecorator
    from ardiq.pending import PendingEnqueue
    from ardiq_core import Core
    from ardiq_core.shapes import Submission

    class _Runner(Protocol):
        """The worker of an app while it runs."""

        def stop(self) -> None: ...
        def skip_grace(self) -> None: ...
        def set_burst(self, burst: bool) -> None: ...
        @property
        def worker_id(self) -> str: ...


P = ParamSpec("P")
R = TypeVar("R")

CHUNK = 1000
"""Jobs that one request of `enqueue_many` carries: they make one round trip."""

CHUNK_BYTES = 1024 * 1024
"""A request with so many bytes of arguments is full, so that large ones are sent while the next are encoded."""


class Ardiq(Inspection):
    """A task queue: register functions with it, enqueue calls, run a worker.

    `redis_url`: default `$ARDIQ_REDIS_URL`, else `redis://localhost:6379`. `queue_name`: apps of one name share a
    queue. `priorities`: the lanes, lowest first, default one lane `default`. `serializer`, `deserializer`: in place
    of msgpack; both or neither. `cron_poll_s`: upper bound between looks at the schedule. The further options are
    those of `ardiq.options.CoreOptions`.

    Making an app does no I/O: it connects on first use, and serves any number of event loops and threads. Raises
    ValueError for a bad value and TypeError for a bad type or an unknown option.

        app = Ardiq(queue_name="emails", priorities=["low", "default", "high"])
    """

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
        super().__init__(
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
        self._runner: _Runner | None = None
        self._last_stop = object()  # another one after each call of `stop`
        self._worker_id: tuple[int, str] | None = None  # with the process that it was made for
        self._connection = Connection(
            self.redis_url,
            self.queue_name,
            self.priorities,
            self.connect_timeout_s,
            allow_eviction=self.allow_eviction,
        )
        finalize(self, self._connection)

    @property
    def burst(self) -> bool:
        """Whether the worker returns when nothing waits, runs or is due. May be set while it runs."""
        return self._burst

    @burst.setter
    def burst(self, value: bool) -> None:
        self._burst = flag("burst", value)
        if (runner := self._runner) is not None:
            runner.set_burst(value)

    @property
    def worker_id(self) -> str:
        """The id of this app's worker; while it runs, that of its present incarnation."""
        if (runner := self._runner) is not None:
            return runner.worker_id
        pid = os.getpid()
        if self._worker_id is None or self._worker_id[0] != pid:
            self._worker_id = (pid, _new_worker_id(pid))
        return self._worker_id[1]

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
        ids = await self._connection.enqueue_many(self._chunks(calls))
        return [Job(self, job_id) for chunk in ids for job_id in chunk]

    def enqueue_many_sync(self, calls: Iterable[Prepared[R]]) -> list[Job[R]]:
        """As `enqueue_many`, for code without an event loop."""
        ids = self._connection.enqueue_many_sync(self._chunks(calls))
        return [Job(self, job_id) for chunk in ids for job_id in chunk]

    def run(self, **overrides: Unpack[RunOptions]) -> Coroutine[Any, Any, None]:
        """Run a worker until `stop` is called, or, in burst mode, until nothing is left. May be called again.

        `concurrency`, `prefetch`, `sync_concurrency`, `shutdown_grace_s` and `burst` take the place of the app's own
        options for this run. From this call on, `stop` ends the run, also when what this returns has not been awaited
        yet. Raises TypeError for any other option, and WorkerNotInstalledError where only the client is installed.

            await app.run(concurrency=50)
        """
        only_known("app.run()", overrides, RunOptions.__annotations__)
        return self._run(self._last_stop, overrides)

    async def _run(self, last_stop: object, overrides: RunOptions) -> None:
        try:
            from ardiq_worker import run_app
        except ModuleNotFoundError as error:
            if error.name != "ardiq_worker":
                raise
            raise WorkerNotInstalledError(
                "this environment has the client only; to run tasks here: pip install ardiq-worker"
            ) from None
        await run_app(self, last_stop, **overrides)

    def stop(self) -> None:
        """Ask the worker to stop gracefully. You can call it from any thread, any number of times.

        It stops the current run, even before its first step. If there is no run, it does nothing.
        """
        # Set this first, then check the runner. A starting run does both in reverse order, so one always sees the other.
        self._last_stop = object()
        if (runner := self._runner) is not None:
            runner.stop()

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
        if not isinstance(lane, str):
            raise TypeError(f"priority must be a str, not {kind_of(lane)}")
        index = self._lanes.get(lane)
        if index is None:
            raise ValueError(
                f"priority {lane!r} is none of the app's priorities {self.priorities!r}{did_you_mean(lane, self._lanes)}"
            )
        return index

    def _chunks(self, calls: Iterable[object]) -> Iterator[list[Submission]]:
        """The submissions of `calls`, a thousand at a time; what is there as a whole is checked as a whole first."""
        if isinstance(calls, list | tuple):
            return _chunks([self._submission_of(call) for call in cast("Sequence[object]", calls)])
        return _chunks(map(self._submission_of, calls))

    def _submission_of(self, call: object) -> Submission:
        if not isinstance(call, Prepared):
            raise TypeError(f"enqueue_many takes what task.prepare(...) returns, not {kind_of(call)}")
        if call._app is not self:
            raise ValueError(f"the call of {call._submission[1]!r} was prepared with another app")
        return call._submission

    def _core(self) -> Core:
        return self._connection.core()

    def __repr__(self) -> str:
        # Without the URL: there may be a password in it.
        return f"<Ardiq queue={self.queue_name!r} priorities={self.priorities!r} tasks={len(self._registry)}>"


def _chunks(submissions: Iterable[Submission]) -> Iterator[list[Submission]]:
    chunk: list[Submission] = []
    room = CHUNK_BYTES
    for submission in submissions:
        chunk.append(submission)
        room -= len(submission[-1])
        if room <= 0 or len(chunk) == CHUNK:
            yield chunk
            chunk, room = [], CHUNK_BYTES
    if chunk:
        yield chunk


def _new_worker_id(pid: int) -> str:
    import socket

    return f"{socket.gethostname()}:{pid}:{os.urandom(4).hex()}"

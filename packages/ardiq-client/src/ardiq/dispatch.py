"""What `Task`, `BoundTask` and `TaskRef` have in common: they turn calls into submissions.

A few things have one name in the public API and another in the engine. A `task_id` is the engine's
job id, `schedule_ms` its due time, `enqueue_time` its time of the enqueue, and a payload its body.
The client uses the engine's names internally.
"""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from ardiq.checks import LATEST_MS, LONGEST_MS, check_bool, check_headers, check_int, check_job_id, check_known
from ardiq.errors import PayloadTooLargeError
from ardiq.job import Job
from ardiq.options import lane_index
from ardiq.pending import PendingEnqueue

if TYPE_CHECKING:
    from datetime import timedelta

    from ardiq._functions.signature import Signature
    from ardiq.app import Ardiq
    from ardiq.plan import ScheduledTask
    from ardiq.workflow import Parent
    from ardiq_core.shapes import Submission

P = ParamSpec("P")
R = TypeVar("R")

CALL_OPTIONS = ("task_id", "priority", "delay_ms", "schedule_ms", "expire_ms", "headers", "unique", "after", "unpack")
"""The names of the arguments of `options` that apply to one job."""

SCHEDULE_OPTIONS = ("schedule", "every", "tz", "coalesce", "max_schedule_drift")
"""The names of the arguments of `options` that make a schedule."""


class Prepared(Generic[R]):
    """A call whose arguments are encoded, ready for `app.enqueue_many`.

    `task.prepare(...)` returns it.
    """

    __slots__ = ("_app", "_submission")

    def __init__(self, app: Ardiq, submission: Submission) -> None:
        self._app = app
        self._submission = submission

    def __repr__(self) -> str:
        return f"<Prepared {self._submission[1]}>"


class Dispatch(Generic[P, R]):
    """A task together with its lane and enqueue options, before the arguments are known."""

    __slots__ = (
        "_after",
        "_app",
        "_delay_ms",
        "_due_ms",
        "_encode",
        "_expire_ms",
        "_headers",
        "_job_id",
        "_lane",
        "_signature",
        "_unique",
        "_unpack",
        "name",
    )

    def __init__(
        self,
        app: Ardiq,
        name: str,
        signature: Signature,
        *,
        lane: int,
        expire_ms: int = 0,
        unique: bool = False,
        job_id: str | None = None,
        delay_ms: int = 0,
        due_ms: int = 0,
        headers: dict[str, str] | None = None,
        after: tuple[Parent, ...] = (),
        unpack: bool = True,
    ) -> None:
        self.name = name
        self._after = after
        self._unpack = unpack
        self._app = app
        self._encode = app._codec.encode_call
        self._signature = signature
        self._lane = lane
        self._expire_ms = expire_ms
        self._unique = unique
        self._job_id = job_id
        self._delay_ms = delay_ms
        self._due_ms = due_ms
        self._headers = headers

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> PendingEnqueue[R]:
        """Enqueue one call; await the return value to get its `Job`.

        The arguments are those of the task's function.

        Raises:
            TypeError: If the arguments do not match the function's signature.
            SerializationError: If an argument cannot be encoded.
            PayloadTooLargeError: If the encoded arguments are larger than `max_payload_bytes`.
            BrokerError: When awaited, if Redis cannot be reached or refuses the job.

        Example:
            ```python
            job = await add.enqueue(2, 3)
            ```
        """
        if self._after:
            from ardiq.workflow import enqueue_after

            return enqueue_after(self, self._submission(args, kwargs))
        return PendingEnqueue(self._app, self._submission(args, kwargs))

    def enqueue_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Blocking version of `enqueue`, for code without an event loop.

        Returns when the job is accepted.
        """
        if self._after:
            return self.enqueue(*args, **kwargs).enqueue_sync()
        app = self._app
        return Job(app, app._connection.enqueue_sync(self._submission(args, kwargs)))

    def prepare(self, /, *args: P.args, **kwargs: P.kwargs) -> Prepared[R]:
        """Encode one call for `app.enqueue_many`.

        Raises what `enqueue` raises, except for BrokerError.

        Example:
            ```python
            jobs = await app.enqueue_many([add.prepare(1, 2), add.prepare(3, 4)])
            ```
        """
        if self._after:
            raise ValueError("prepare() does not go with after=; use enqueue()")
        return Prepared(self._app, self._submission(args, kwargs))

    def _submission(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Submission:
        signature = self._signature
        if kwargs:
            if len(args) not in signature.known.get(tuple(kwargs), ()):
                signature.check(self.name, args, kwargs)
        elif len(args) not in signature.counts:
            signature.check(self.name, args, kwargs)
        body = self._encode(args, kwargs, signature.fn)
        if len(body) > self._app._max_body:
            raise PayloadTooLargeError(
                f"the arguments of {self.name!r} take {len(body)} bytes, more than the {self._app._max_body} "
                f"of max_payload_bytes; store them elsewhere and pass a reference, or raise the limit"
            )
        digest = self._identity(args, kwargs) if self._unique else None
        return (
            self._job_id,
            self.name,
            self._lane,
            self._delay_ms,
            self._due_ms,
            self._expire_ms,
            digest,
            self._headers,
            body,
        )

    def _submission_for_inputs(self, kwargs: dict[str, Any] | None = None, count: int | None = None) -> Submission:
        """Return the submission of a job that gets its positional arguments from others: so many,
        if that is known. Without `kwargs`, it gets all arguments from another job.
        """
        if kwargs is not None:
            self._signature.check_inputs(self.name, count, kwargs)
        from ardiq._functions.signature import UNKNOWN

        # Its identity depends on arguments that are not known yet.
        call: BoundTask[..., Any] = BoundTask(
            self._app,
            self.name,
            UNKNOWN,
            lane=self._lane,
            expire_ms=self._expire_ms,
            job_id=self._job_id,
            delay_ms=self._delay_ms,
            due_ms=self._due_ms,
            headers=self._headers,
        )
        return call._submission((), kwargs or {})

    def _identity(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        from ardiq._encoding.identity import identity

        return identity(self.name, args, kwargs, self._app._codec, self._signature.fn)

    def _with(
        self,
        task_id: str | None,
        priority: str | None,
        delay_ms: int,
        schedule_ms: int,
        expire_ms: int,
        headers_given: Mapping[str, str] | None,
        unique: bool | None,
        after: Parent | Iterable[Parent],
        unpack: bool,
    ) -> BoundTask[P, R]:
        app = self._app
        parents: tuple[Parent, ...] = ()
        if after != ():
            from ardiq.workflow import check_parents

            parents = check_parents(after)
        return BoundTask(
            app,
            self.name,
            self._signature,
            lane=self._lane if priority is None else lane_index(app._lanes, priority),
            # 0 is the default of the option and keeps the task's own setting.
            expire_ms=check_int("expire_ms", expire_ms, 0, LONGEST_MS) or self._expire_ms,
            unique=self._unique if unique is None else check_bool("unique", unique),
            job_id=None if task_id is None else check_job_id(task_id),
            delay_ms=check_int("delay_ms", delay_ms, 0, LONGEST_MS),
            due_ms=check_int("schedule_ms", schedule_ms, 0, LATEST_MS),
            headers=check_headers(headers_given),
            after=parents,
            unpack=check_bool("unpack", unpack),
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class BoundTask(Dispatch[P, R]):
    """A task with options for one or more enqueues. `task.options(...)` returns it."""

    __slots__ = ()


class Dispatchable(Dispatch[P, R]):
    """Base class of tasks that accept options for one call."""

    __slots__ = ()

    @overload
    def options(
        self,
        *,
        task_id: str | None = None,
        priority: str | None = None,
        delay_ms: int = 0,
        schedule_ms: int = 0,
        expire_ms: int = 0,
        headers: Mapping[str, str] | None = None,
        unique: bool | None = None,
        after: Parent | Iterable[Parent] = (),
        unpack: bool = True,
    ) -> BoundTask[P, R]: ...
    @overload
    def options(
        self,
        *,
        schedule: str,
        tz: str | None = None,
        coalesce: bool = False,
        max_schedule_drift: float | timedelta = 60,
        task_id: str | None = None,
        priority: str | None = None,
        expire_ms: int = 0,
        headers: Mapping[str, str] | None = None,
        unique: bool | None = None,
    ) -> ScheduledTask[P, R]: ...
    @overload
    def options(
        self,
        *,
        every: float | timedelta,
        coalesce: bool = False,
        max_schedule_drift: float | timedelta = 60,
        task_id: str | None = None,
        priority: str | None = None,
        expire_ms: int = 0,
        headers: Mapping[str, str] | None = None,
        unique: bool | None = None,
    ) -> ScheduledTask[P, R]: ...
    def options(
        self,
        *,
        task_id: str | None = None,
        priority: str | None = None,
        delay_ms: int = 0,
        schedule_ms: int = 0,
        expire_ms: int = 0,
        headers: Mapping[str, str] | None = None,
        unique: bool | None = None,
        after: Parent | Iterable[Parent] = (),
        unpack: bool = True,
        **more: Any,
    ) -> BoundTask[P, R] | ScheduledTask[P, R]:
        """Return the task with options, which apply to what you enqueue through the return value.

        With `schedule` or `every`, workers enqueue the call again and again: see `ScheduledTask`.

        Args:
            task_id: The job's id. While a job with this id is unfinished, another enqueue returns
                that job; for a job with parents, it raises ValueError. For a schedule, this is its
                name.
            priority: The lane. None (the default) means the task's own lane.
            delay_ms: How long the job waits before it may start, in milliseconds.
            schedule_ms: When the job may start, in epoch milliseconds. It takes precedence over
                `delay_ms`, and a time in the past means now.
            expire_ms: Fail the job with the value `"expired"` if it has not started this many
                milliseconds after it was enqueued. 0 keeps the task's own setting.
            headers: A dict of str to str that is passed along with the job; keys and values
                together may have at most 8,192 bytes.
            unique: Overrides the task's own setting. None (the default) keeps it.
            after: Jobs, ids of jobs, or enqueues that must have succeeded before the job starts. It
                does not get their outputs.
            unpack: Whether an output that is a tuple becomes several arguments, if the job is a
                child of another one.
            **more: `schedule`, a cron expression, or `every`, an interval in seconds or as a
                timedelta; with one of them, also `tz`, `coalesce` and `max_schedule_drift`, as in
                `app.cron`. Any other option raises TypeError.

        Raises:
            ValueError: If a number is out of range, or the app has no such lane.
            InvalidIdError: If `task_id` is not a valid job id, or is too long for a schedule.
            TypeError: If an option is unknown or has the wrong type.

        Example:
            ```python
            await report.options(priority="low", delay_ms=5000).enqueue(2026)
            ```
        """
        bound = self._with(task_id, priority, delay_ms, schedule_ms, expire_ms, headers, unique, after, unpack)
        if not more:
            return bound
        check_known("task.options()", more, (*CALL_OPTIONS, *SCHEDULE_OPTIONS))
        from ardiq.plan import scheduled  # most calls make no schedule

        return scheduled(bound, more)


class TaskRef(Dispatchable[P, R]):
    """A task that is known by its name. `app.ref(name)` returns it.

    The app does not need the code of the task.
    """

    __slots__ = ()


def task_ref(app: Ardiq, name: str) -> TaskRef[..., Any]:
    """Return a task by its name. If the app has registered it, its signature and options apply."""
    task = app._registry.get(name)
    if task is None:
        from ardiq._functions.signature import UNKNOWN

        return TaskRef(app, name, UNKNOWN, lane=app._lanes[app.default_priority])
    return TaskRef(app, name, task._signature, lane=task._lane, expire_ms=task.expire_ms, unique=task.unique)

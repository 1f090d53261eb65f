"""Handles to the schedules of a queue, and what you can learn about each."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ardiq import _core
from ardiq.errors import ScheduleNotFoundError, WorkerNotInstalledError
from ardiq.job import Job
from ardiq.printable import printable
from ardiq.results import TaskStatus, call_of

if TYPE_CHECKING:
    from ardiq.app import Ardiq
    from ardiq_core.shapes import Agenda, Plan, Scheduled

R = TypeVar("R")


class ScheduleInfo(NamedTuple):
    """A schedule: when it fires, and how its last job ended.

    All times are in epoch milliseconds by the Redis clock.

    Attributes:
        name: The name of the schedule.
        fn_name: The name of the task.
        spec: The cron expression; None if the schedule has an interval.
        every_ms: The interval, in milliseconds; None if the schedule has an expression.
        tz: The time zone of the expression.
        dynamic: Whether a client created the schedule. Otherwise, it is in the code of a worker.
        paused: Whether it is paused.
        next_run: The next occurrence. None if the schedule is paused, or if it has an expression
            and `ardiq-worker`, which computes the times, is not installed here.
        last_run: The last occurrence that was enqueued; None if there was none.
        last_task_id: The id of its job.
        last_status: The state of that job. `not_found` if its result has expired or was not stored.
        last_success: Whether that job succeeded; None if it has not ended or there is no result.
        last_error: Why it failed, as the `value` of its result; None if it did not fail.
        coalesce: Whether an occurrence is skipped while the job of the previous one is unfinished.
        max_schedule_drift_ms: How late an occurrence may be, in milliseconds.
        lane: The lane of the jobs.
        args: The positional arguments of the call; empty if this app cannot decode them.
        kwargs: The keyword arguments of the call; empty if this app cannot decode them.
    """

    name: str
    fn_name: str
    spec: str | None
    every_ms: int | None
    tz: str
    dynamic: bool
    paused: bool
    next_run: int | None
    last_run: int | None
    last_task_id: str | None
    last_status: TaskStatus | None
    last_success: bool | None
    last_error: str | None
    coalesce: bool
    max_schedule_drift_ms: int
    lane: str
    args: tuple[Any, ...]  # whatever the caller passed
    kwargs: dict[str, Any]


class Schedule(Generic[R]):
    """A handle to a schedule of a queue: an app and a name. Two handles to the same one are equal.

    Example:
        ```python
        beat = await ping.options(every=30).enqueue()
        await beat.pause()
        ```
    """

    __slots__ = ("_app", "_name")

    def __init__(self, app: Ardiq, name: str) -> None:
        self._app = app
        self._name = name

    @property
    def app(self) -> Ardiq:
        """The app whose queue has the schedule."""
        return self._app

    @property
    def name(self) -> str:
        """The name of the schedule."""
        return self._name

    async def info(self) -> ScheduleInfo | None:
        """Return the schedule as it is now, or None if there is none with this name.

        Raises:
            BrokerError: If Redis cannot be reached or refuses the request.
        """
        return _only(infos(self._app, await self._app._connection.ask(_core.schedules(self._name))))

    def info_sync(self) -> ScheduleInfo | None:
        """Blocking version of `info`, for code without an event loop."""
        return _only(infos(self._app, self._app._connection.ask_sync(_core.schedules(self._name), "info")))

    async def next(self) -> int | None:
        """Return the next occurrence, in epoch milliseconds.

        It is None if the schedule is paused, or if there is none with this name.

        Raises:
            WorkerNotInstalledError: If it has a cron expression, and `ardiq-worker`, which computes
                the times, is not installed here.
            BrokerError: If Redis cannot be reached or refuses the request.

        Example:
            ```python
            next_ms = await app.schedule("nightly").next()
            ```
        """
        return _next_of(await self.info())

    def next_sync(self) -> int | None:
        """Blocking version of `next`, for code without an event loop."""
        return _next_of(self.info_sync())

    async def pause(self) -> bool:
        """Stop firing until `resume` is called. From then on, no occurrence fires.

        Returns:
            False if there is no schedule with this name.

        Raises:
            BrokerError: If Redis cannot be reached or refuses the request.
        """
        return bool(await self._app._connection.ask(_core.pause(self._name, True)))

    def pause_sync(self) -> bool:
        """Blocking version of `pause`, for code without an event loop."""
        return bool(self._app._connection.ask_sync(_core.pause(self._name, True), "pause"))

    async def resume(self) -> bool:
        """Fire again, from now on. Occurrences of the past are skipped.

        Returns and raises what `pause` does.
        """
        return bool(await self._app._connection.ask(_core.pause(self._name, False)))

    def resume_sync(self) -> bool:
        """Blocking version of `resume`, for code without an event loop."""
        return bool(self._app._connection.ask_sync(_core.pause(self._name, False), "resume"))

    async def fire(self) -> Job[R]:
        """Enqueue a job of the schedule now, even if it is paused. Its occurrences do not change.

        Returns:
            The job. If the task is unique and an unfinished job has its identity, that job.

        Raises:
            ScheduleNotFoundError: If there is no schedule with this name.
            BrokerError: If Redis cannot be reached or refuses the request.

        Example:
            ```python
            job = await app.schedule("nightly").fire()
            ```
        """
        return self._job(await self._app._connection.ask(_core.fire_now(self._name)))

    def fire_sync(self) -> Job[R]:
        """Blocking version of `fire`, for code without an event loop."""
        return self._job(self._app._connection.ask_sync(_core.fire_now(self._name), "fire"))

    async def unschedule(self) -> bool:
        """Remove the schedule. From then on, no occurrence fires. Jobs that exist are not affected.

        Returns:
            False if there is no schedule with this name.

        Raises:
            ValueError: If the schedule is in the code of a worker: remove it there, or pause it.
            BrokerError: If Redis cannot be reached or refuses the request.

        Example:
            ```python
            await beat.unschedule()
            ```
        """
        return self._removed(await self._app._connection.ask(_core.unschedule(self._name)))

    def unschedule_sync(self) -> bool:
        """Blocking version of `unschedule`, for code without an event loop."""
        return self._removed(self._app._connection.ask_sync(_core.unschedule(self._name), "unschedule"))

    def _job(self, ids: list[str]) -> Job[R]:
        if not ids:
            raise ScheduleNotFoundError(
                f"queue {self._app.queue_name!r} has no schedule '{printable(self._name)}'; app.schedules() lists them"
            )
        return Job(self._app, ids[0])

    def _removed(self, answer: int) -> bool:
        if answer < 0:
            raise ValueError(
                f"the schedule '{printable(self._name)}' is in the code of a worker (@app.cron): remove it there, or "
                "pause it"
            )
        return answer == 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self._app is other._app and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"<Schedule {printable(self._name)}>"


def infos(app: Ardiq, agenda: Agenda) -> list[ScheduleInfo]:
    """Convert the engine's reply to schedules."""
    _revision, now_ms, listed = agenda
    return [_info(app, now_ms, one) for one in listed]


def _info(app: Ardiq, now_ms: int, one: Scheduled) -> ScheduleInfo:
    plan, _revision, is_static, is_paused, _changed_ms, last = one
    name, task, lane, spec, every_ms, zone, coalesce, drift_ms, _expire_ms, _digest, _headers, body = plan
    args, kwargs = call_of(app._codec, body)
    last_id, last_ms, status, success, error = last or (None, None, None, None, None)
    return ScheduleInfo(
        *(name, task, spec, every_ms or None, zone, not is_static, is_paused),
        next_run=None if is_paused else _next_ms(plan, now_ms),
        last_run=last_ms,
        last_task_id=last_id,
        last_status=None if status is None else TaskStatus(status),
        last_success=success,
        last_error=error,
        coalesce=coalesce,
        max_schedule_drift_ms=drift_ms,
        lane=lane,
        args=args,
        kwargs=kwargs,
    )


def _next_ms(plan: Plan, now_ms: int) -> int | None:
    """Return the first occurrence after `now_ms`; None if this environment cannot compute it."""
    spec, every_ms, zone = plan[3:6]
    if spec is None and not every_ms:  # another program has written it
        return None
    if spec is None:
        return (now_ms // every_ms + 1) * every_ms
    try:
        from ardiq_worker.occurrences import occurrences
    except ImportError:  # it is not installed, or has another version
        return None
    try:
        return occurrences(spec, None, zone).after(now_ms)
    except ValueError:  # a zone that this machine does not have, or an expression of a later version
        return None


def _next_of(info: ScheduleInfo | None) -> int | None:
    if info is None or info.paused or info.next_run is not None:
        return None if info is None else info.next_run
    raise WorkerNotInstalledError(
        "this environment cannot compute the occurrences of the schedule: it needs ardiq-worker, in the version of the "
        "client, and its time zone"
    )


def _only(found: list[ScheduleInfo]) -> ScheduleInfo | None:
    return found[0] if found else None

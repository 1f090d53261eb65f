"""Tasks with a schedule: dynamic schedules, and how all schedules are passed to the engine."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from ardiq import _core
from ardiq.errors import InvalidIdError, PayloadTooLargeError
from ardiq.printable import printable

if TYPE_CHECKING:
    from ardiq.cron import StaticSchedule, Timing
    from ardiq.dispatch import Dispatch
    from ardiq.schedules import Schedule
    from ardiq_core.shapes import Plan

P = ParamSpec("P")
R = TypeVar("R")

MOST_BYTES = 4096
"""The limit for the encoded arguments of a schedule: workers keep all schedules in memory."""


class ScheduledTask(Generic[P, R]):
    """A task with a schedule, before the arguments are known. `task.options(schedule=...)` or
    `task.options(every=...)` returns it.

    What you enqueue through it is a dynamic schedule: workers enqueue the call at each occurrence,
    until you remove the schedule. Its name is `task_id`, or the task's name if you set none. A
    schedule with the same name is replaced; if that one was paused, the new one is too.
    """

    __slots__ = ("_bound", "_name", "_timing")

    def __init__(self, bound: Dispatch[P, R], name: str, timing: Timing) -> None:
        self._bound = bound
        self._name = name
        self._timing = timing

    @property
    def name(self) -> str:
        """The name of the schedule."""
        return self._name

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Schedule[R]]:
        """Create the schedule, or replace the one of this name; await the return value to get the
        handle to it.

        The arguments are those of the task's function. Every occurrence passes the same ones.

        Raises:
            TypeError: If the arguments do not match the function's signature.
            ValueError: If the name belongs to a schedule in the code, `@app.cron`.
            SerializationError: If an argument cannot be encoded.
            PayloadTooLargeError: If the encoded arguments are larger than 4,096 bytes.
            BrokerError: When awaited, if Redis cannot be reached or refuses the schedule.

        Example:
            ```python
            beat = await ping.options(schedule="*/5 * * * *", tz="Europe/Berlin").enqueue()
            ```
        """
        plan = self._plan(args, kwargs)

        async def create() -> Schedule[R]:
            return self._created(await self._bound._app._connection.ask(_core.schedule(plan)))

        return create()

    def enqueue_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> Schedule[R]:
        """Blocking version of `enqueue`, for code without an event loop."""
        request = _core.schedule(self._plan(args, kwargs))
        return self._created(self._bound._app._connection.ask_sync(request, "enqueue"))

    def _plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        if self._name in self._bound._app._schedules:
            raise self._taken()
        return plan_of(self._bound, self._name, self._timing, args, kwargs)

    def _created(self, answer: int) -> Schedule[R]:
        if not answer:
            raise self._taken()
        return self._bound._app.schedule(self._name)

    def _taken(self) -> ValueError:
        return ValueError(
            f"the name '{printable(self._name)}' belongs to a schedule in the code (@app.cron); "
            "choose another one with task_id="
        )

    def __repr__(self) -> str:
        return f"<ScheduledTask {self._bound.name} as {printable(self._name)}>"


def scheduled(bound: Dispatch[P, R], options: Mapping[str, Any]) -> ScheduledTask[P, R]:
    """Return a task with a schedule. Raises TypeError or ValueError for options that do not fit."""
    from ardiq.cron import check_timing
    from ardiq.task import LONGEST_SCHEDULE_NAME

    timing = check_timing(options.get("schedule"), options.get("every"), options, label="schedule=")
    if bound._delay_ms or bound._due_ms:
        raise TypeError("a schedule fires at its own times: it has no delay_ms or schedule_ms")
    if bound._after or not bound._unpack:
        raise TypeError("the jobs of a schedule wait for no others: it has no after or unpack")
    name = bound.name if bound._job_id is None else bound._job_id
    if len(name) > LONGEST_SCHEDULE_NAME:
        raise InvalidIdError(
            f"the name of a schedule must have at most {LONGEST_SCHEDULE_NAME} characters; set a shorter one with task_id="
        )
    return ScheduledTask(bound, name, timing)


def plan_of(
    bound: Dispatch[..., Any], name: str, timing: Timing, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Plan:
    """Return a schedule in the form that the engine accepts. Raises what enqueuing the call would
    raise.
    """
    _id, task, lane, _delay, _due, expire_ms, digest, headers, body = bound._submission(args, kwargs)
    if len(body) > MOST_BYTES:
        raise PayloadTooLargeError(
            f"the arguments of {task!r} take {len(body)} bytes, more than the {MOST_BYTES} that a schedule may have; "
            "store them elsewhere and pass a reference"
        )
    lane_name = [*bound._app._lanes][lane]
    spec, every_ms, zone, coalesce, drift_ms = timing
    when = (spec, every_ms or 0, zone, coalesce, drift_ms)
    return (name, task, lane_name, *when, expire_ms, digest, headers, body)


def static_plan(schedule: StaticSchedule) -> Plan:
    """Return a schedule of the code in the form that the engine accepts."""
    return plan_of(schedule.task, schedule.name, schedule.timing, (), {})

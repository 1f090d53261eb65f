"""When schedules fire: the options, their checks, and schedules as they are registered.

The worker computes the times with croniter. The client needs only the standard library, so a module
that uses `@app.cron` can be imported where only the client is installed.
"""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ardiq.checks import check_bool, check_known, check_seconds, did_you_mean, kind_of
from ardiq.task import Task, TaskOptions, check_schedulable, make_task, register_task

if TYPE_CHECKING:
    from ardiq.app import Ardiq
    from ardiq.decorator import TaskDecorator

UTC = "UTC"

DRIFT_MS = 60_000
"""The default of `max_schedule_drift`."""

TIMING_OPTIONS = ("tz", "coalesce", "max_schedule_drift")
"""The names of the options of `check_timing` that neither an expression nor a period needs."""

_ZONE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-")


class CronOptions(TaskOptions, total=False):
    """The options of `@app.cron(...)`, in addition to those of `@app.task(...)`.

    Attributes:
        tz: The time zone of the expression, such as `"Europe/Berlin"`; None (the default) means
            UTC.
        coalesce: Whether to skip an occurrence while the job of the previous one is unfinished;
            defaults to False.
        max_schedule_drift: An occurrence that cannot be enqueued within this time is dropped, in
            seconds or as a timedelta; defaults to 60.
    """

    tz: str | None
    coalesce: bool
    max_schedule_drift: float | timedelta


class Timing(NamedTuple):
    """When a schedule fires: it has either a cron expression or an interval."""

    spec: str | None
    """Cron expression; a sixth field, for seconds, comes first."""
    every_ms: int | None
    """Interval, aligned to the epoch."""
    tz: str = UTC
    """The time zone of the expression."""
    coalesce: bool = False
    """Whether to skip an occurrence while the job of the previous one is unfinished."""
    drift_ms: int = DRIFT_MS
    """How late an occurrence may be."""


class StaticSchedule(NamedTuple):
    """A schedule of the code, `@app.cron`."""

    name: str
    timing: Timing
    task: Task[..., Any]


def register_cron(app: Ardiq, spec: object, every: object, options: CronOptions) -> TaskDecorator:
    """Return the decorator that registers a task and its schedule."""
    check_known("@app.cron()", options, CronOptions.__annotations__)
    given = cast("dict[str, Any]", dict(options))
    timing = check_timing(spec, every, {name: given.pop(name) for name in TIMING_OPTIONS if name in given})

    def register(fn: Callable[..., Any]) -> Task[..., Any]:
        task = make_task(app, fn, cast("TaskOptions", given))
        check_schedulable(task)
        register_task(app._registry, task)
        app._schedules[task.name] = StaticSchedule(task.name, timing, task)
        return task

    return cast("TaskDecorator", register)


def check_timing(spec: object, every: object, options: Mapping[str, object], *, label: str = "") -> Timing:
    """Return when a schedule fires.

    Raises TypeError unless exactly one of the expression and the interval was passed, or for a
    value of the wrong type, and ValueError for a value that is out of range or malformed.
    """
    if (spec is None) == (every is None):
        raise TypeError(f"pass exactly one of {label or 'a cron expression'} and every=")
    coalesce = check_bool("coalesce", options.get("coalesce", False))
    drift_ms = round(check_seconds("max_schedule_drift", options.get("max_schedule_drift", DRIFT_MS / 1000)) * 1000)
    if drift_ms < 1:
        raise ValueError("max_schedule_drift must be at least a millisecond")
    zone = options.get("tz")
    if spec is None:
        if zone is not None:
            raise TypeError("tz= is for cron expressions; every= is aligned to the epoch in every time zone")
        return Timing(None, _interval_ms(every), UTC, coalesce, drift_ms)
    if not isinstance(spec, str):
        hint = "; for an interval pass every=" if isinstance(spec, int | float | timedelta) else ""
        raise TypeError(f"a cron expression must be a str, not {kind_of(spec)}{hint}")
    from ardiq.expression import parts  # not needed without a cron expression

    parts(spec)  # raises ValueError if the expression is invalid
    return Timing(spec.strip(), None, check_zone(zone), coalesce, drift_ms)


def check_zone(zone: object) -> str:
    """Return the name of a time zone; None means UTC.

    Where Python finds no time zones at all, any well-formed name is accepted: a module with
    schedules can then be imported, and the worker, which computes the times, checks the name.
    """
    if zone is None or zone == UTC:
        return UTC
    if not isinstance(zone, str):
        raise TypeError(f"tz must be the name of a time zone, such as 'Europe/Berlin', not {kind_of(zone)}")
    from zoneinfo import ZoneInfo, available_timezones

    # "localtime" is another zone on each machine.
    is_name = all(part and _ZONE_CHARACTERS.issuperset(part) for part in zone.split("/"))
    if is_name and zone != "localtime":
        try:
            ZoneInfo(zone)
        except (ValueError, LookupError, OSError):
            if not available_timezones():
                return zone
        else:
            return zone
    raise ValueError(f"tz {zone!r} is not a known time zone{did_you_mean(zone, available_timezones(), near=0.7)}")


def _interval_ms(every: object) -> int:
    interval = round(check_seconds("every", every) * 1000)
    if interval < 1:
        raise ValueError("every must be at least a millisecond")
    return interval

"""Schedules as they are registered.

The worker computes the times with croniter. The client needs only the standard library, so a module
that uses `@app.cron` can be imported where only the client is installed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from ardiq.checks import check_seconds, kind_of

if TYPE_CHECKING:
    from ardiq.task import Task


class Schedule(NamedTuple):
    """When workers enqueue a task.

    A schedule has either a cron expression in UTC or an interval in ms, aligned to the epoch.
    """

    name: str
    spec: str | None
    every_ms: int | None
    task: Task[..., Any]


def check_timing(spec: object, every: object) -> tuple[str | None, int | None]:
    """Return the expression and the interval in ms, one of which is None.

    Raises TypeError unless exactly one was passed.
    """
    if (spec is None) == (every is None):
        raise TypeError("pass exactly one of a cron expression and every=")
    if spec is None:
        return None, _interval_ms(every)
    if not isinstance(spec, str):
        hint = "; for an interval pass every=" if isinstance(spec, int | float | timedelta) else ""
        raise TypeError(f"a cron expression must be a str, not {kind_of(spec)}{hint}")
    from ardiq.expression import parts  # not needed without a cron expression

    parts(spec)  # raises ValueError if the expression is invalid
    return spec.strip(), None


def _interval_ms(every: object) -> int:
    interval = round(check_seconds("every", every) * 1000)
    if interval < 1:
        raise ValueError("every must be at least a millisecond")
    return interval

"""Schedules as they are registered.

The worker computes the times, with croniter; the client needs nothing beyond the standard library,
so that a module with `@app.cron` in it imports where only the client is installed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from ardiq.checks import check_seconds, kind_of

if TYPE_CHECKING:
    from ardiq.task import Task


class Schedule(NamedTuple):
    """When workers enqueue a task.

    Either at the times of a cron expression in UTC, or at an interval in ms, aligned to the epoch.
    """

    name: str
    spec: str | None
    every_ms: int | None
    task: Task[..., Any]


def check_timing(spec: object, every: object) -> tuple[str | None, int | None]:
    """The expression or the interval in ms, whichever was given; TypeError unless it is exactly
    one.
    """
    if (spec is None) == (every is None):
        raise TypeError("pass exactly one of a cron expression and every=")
    if spec is None:
        return None, _interval_ms(every)
    if not isinstance(spec, str):
        hint = "; for an interval pass every=" if isinstance(spec, int | float | timedelta) else ""
        raise TypeError(f"a cron expression must be a str, not {kind_of(spec)}{hint}")
    from ardiq.expression import parts  # not needed without a cron expression

    parts(spec)  # raises ValueError for what cannot be one
    return spec.strip(), None


def _interval_ms(every: object) -> int:
    interval = round(check_seconds("every", every) * 1000)
    if interval < 1:
        raise ValueError("every must be at least a millisecond")
    return interval

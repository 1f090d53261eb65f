"""Schedules as they are registered: which there are, and whether their expressions can be one.

The worker computes the times, with croniter; this module needs nothing beyond the standard library, so that a module
with `@app.cron` in it imports where only the client is installed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ardiq.checks import kind_of, seconds

if TYPE_CHECKING:
    from ardiq.task import Task


class Schedule(NamedTuple):
    """When a task is to be enqueued by itself: by a cron expression in UTC, or every so many ms since the epoch."""

    name: str
    spec: str | None
    every_ms: int | None
    task: Task[..., Any]


class _Field(NamedTuple):
    label: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

_SECOND: Final = _Field("second", 0, 59)
_DAY: Final = _Field("day of month", 1, 31)
_MONTH: Final = _Field("month", 1, 12, _MONTHS)
_WEEKDAY: Final = _Field("day of week", 0, 7, _WEEKDAYS)
_FIELDS: Final = (_Field("minute", 0, 59), _Field("hour", 0, 23), _DAY, _MONTH, _WEEKDAY)
_LONGEST_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ALIASES: Final = frozenset({"@midnight", "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"})


def check_timing(spec: object, every: object) -> tuple[str | None, int | None]:
    """The expression or the interval in ms, whichever was given; TypeError unless it is exactly one."""
    if (spec is None) == (every is None):
        raise TypeError("pass exactly one of a cron expression and every=")
    if spec is None:
        return None, _interval_ms(every)
    if not isinstance(spec, str):
        hint = "; for an interval pass every=" if isinstance(spec, int | float | timedelta) else ""
        raise TypeError(f"a cron expression must be a str, not {kind_of(spec)}{hint}")
    check_expression(spec)
    return spec.strip(), None


def _interval_ms(every: object) -> int:
    interval = round(seconds("every", every) * 1000)
    if interval < 1:
        raise ValueError("every must be at least a millisecond")
    return interval


def check_expression(spec: str) -> None:
    """Raise ValueError unless `spec` is a cron expression of five fields, or of six with the seconds first."""
    text = spec.strip().lower()
    if text in _ALIASES:
        return
    parts = text.split() if spec.isascii() else []
    if len(parts) not in (5, 6):
        raise ValueError(
            f"cron expression {spec!r} must have five fields (minute hour day-of-month month day-of-week), "
            f"or six with the seconds first"
        )
    fields = (_SECOND, *_FIELDS) if len(parts) == 6 else _FIELDS
    try:
        values = [_check_field(field, part) for field, part in zip(fields, parts, strict=True)]
        _check_possible(*values[-3:-1], weekday=parts[-1])
    except _BadFieldError as error:
        raise ValueError(f"cron expression {spec!r}: {error}") from None


class _BadFieldError(Exception):
    pass


def _check_field(field: _Field, text: str) -> set[int] | None:
    """The values that a field names; None when they depend on the month or are all there are."""
    if text in ("*", "?"):
        if text == "?" and field not in (_DAY, _WEEKDAY):
            raise _BadFieldError(f"the {field.label} cannot be '?'")
        return None
    items = text.split(",")
    if field is _WEEKDAY and any(map(_is_nth, items)):
        _check_nth(items)
        return None
    if field is _DAY and len(items) == 1 and text != "l" and "w" in text:
        _number(field, text.removesuffix("w") if text.endswith("w") else text.removeprefix("w"))
        return None
    values: set[int] = set()
    special = False
    for item in items:
        if item == "l" and field is _DAY:
            special = True
        else:
            values |= _check_item(field, item)
    return None if special else values


def _is_nth(item: str) -> bool:
    return "#" in item or item.startswith("l")


def _check_nth(items: list[str]) -> None:
    for item in items:
        if not _is_nth(item):
            raise _BadFieldError(f"the {_WEEKDAY.label} cannot mix plain days with '#' and 'L'")
        if item.startswith("l"):
            _number(_WEEKDAY, item.removeprefix("l"))
            continue
        days, _, nth = item.partition("#")
        if nth not in ("1", "2", "3", "4", "5"):
            raise _BadFieldError(f"{item!r} must end in a week from #1 to #5")
        low, dash, high = days.partition("-")
        if dash and not (low in _WEEKDAYS and high in _WEEKDAYS):
            raise _BadFieldError(f"{item!r} must name its days, as in mon-fri#1")
        for day in (low, high) if dash else (low,):
            _value(_WEEKDAY, day)


def _check_item(field: _Field, item: str) -> set[int]:
    base, slash, step_text = item.partition("/")
    step = 1
    if slash:
        if not step_text.isdigit() or int(step_text) == 0:
            raise _BadFieldError(f"the step of {item!r} in the {field.label} must be a whole number from 1 on")
        step = int(step_text)
    if base == "*":
        low, high = field.lowest, _last(field)
    else:
        first, dash, last = base.partition("-")
        low = _value(field, first)
        if dash:
            high = field.highest if field is _DAY and last == "l" else _value(field, last)
        else:
            high = _last(field) if slash else low
        if dash and low == high:
            low, high = field.lowest, _last(field)
    if low > high:  # over the end: fri-mon, 22-2
        return set(range(low, field.highest + 1, step)) | set(range(field.lowest, high + 1))
    return set(range(low, high + 1, step))


def _last(field: _Field) -> int:
    return 6 if field is _WEEKDAY else field.highest


def _value(field: _Field, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.lowest
    return _number(field, text)


def _number(field: _Field, text: str) -> int:
    if not text.isdigit():
        names = f" or a name such as {field.names[0]}" if field.names else ""
        raise _BadFieldError(f"the {field.label} has {text!r} where a number{names} is expected")
    if len(text) > 4 or not field.lowest <= int(text) <= field.highest:
        raise _BadFieldError(f"the {field.label} must be from {field.lowest} to {field.highest}, not {text}")
    return int(text)


def _check_possible(days: set[int] | None, months: set[int] | None, *, weekday: str) -> None:
    # With a day of the week given too, either of the two may match.
    if days and months and weekday in ("*", "?") and min(days) > max(_LONGEST_MONTH_DAYS[m - 1] for m in months):
        raise _BadFieldError("no month named has such a day, it would never fire")

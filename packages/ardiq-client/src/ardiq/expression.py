"""Parses and validates cron expressions.

An expression is split into parts, and matches a time if one of the parts does. A part is an
unambiguous expression of six fields: lists of numbers, and a day rule in one field at most. The
library that computes times on the worker therefore never sees a form that libraries interpret
differently.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple


class _Field(NamedTuple):
    label: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

_SECOND: Final = _Field("second", 0, 59)
_MINUTE: Final = _Field("minute", 0, 59)
_HOUR: Final = _Field("hour", 0, 23)
_DAY: Final = _Field("day of month", 1, 31)
_MONTH: Final = _Field("month", 1, 12, _MONTHS)
_WEEKDAY: Final = _Field("day of week", 0, 6, _WEEKDAYS)

_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SHORTEST: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def parts(spec: str) -> list[str]:
    """Return the parts of an expression of five fields, or of six with seconds first.

    Raises ValueError if it is invalid.
    """
    text = spec.strip().lower()
    words = _ALIASES.get(text, text).split() if spec.isascii() else []
    if len(words) not in (5, 6):
        raise ValueError(
            f"cron expression {spec!r} must have five fields (minute hour day-of-month month day-of-week), "
            f"or six with the seconds first"
        )
    second, minute, hour, day, month, weekday = words if len(words) == 6 else ("0", *words)
    try:
        clock = " ".join(_written(field, _plain(field, word)) for field, word in _clock(second, minute, hour))
        months = _plain(_MONTH, month)
        rules = [*_days(day, months), *_weekdays(weekday)]
        if not rules and _is_open(_DAY, day) and _is_open(_WEEKDAY, weekday):
            rules = [("*", "*")]
    except _BadFieldError as error:
        raise ValueError(f"cron expression {spec!r}: {error}") from None
    if not rules:
        raise ValueError(f"cron expression {spec!r}: none of its months has such a day, so it would never fire")
    return [f"{clock} {days} {_written(_MONTH, months)} {weekdays}" for days, weekdays in rules]


class _BadFieldError(Exception):
    pass


def _clock(second: str, minute: str, hour: str) -> list[tuple[_Field, str]]:
    return [(_SECOND, second), (_MINUTE, minute), (_HOUR, hour)]


def _days(word: str, months: set[int]) -> list[tuple[str, str]]:
    """Return the rules of the day-of-month field; none if it restricts nothing or matches no
    existing day.
    """
    if _is_open(_DAY, word):
        return []
    items = word.split(",")
    if len(items) == 1 and "w" in word:
        return [(_nearest_weekday(word, months), "*")]
    rules = [("l", "*")] if "l" in items else []
    days = _all_of(_DAY, (item for item in items if item != "l"))
    there = {day for day in days if day <= max(_LONGEST[month - 1] for month in months)}
    return [*rules, (_written(_DAY, there), "*")] if there else rules


def _nearest_weekday(word: str, months: set[int]) -> str:
    day = _number(_DAY, word.removesuffix("w") if word.endswith("w") else word.removeprefix("w"))
    shortest = min(_SHORTEST[month - 1] for month in months)
    if day > shortest:
        raise _BadFieldError(
            f"{word!r} names a day that some of the chosen months do not have; use {shortest}w or a lower day"
        )
    return f"{day}w"


def _weekdays(word: str) -> list[tuple[str, str]]:
    """Return the rules of the day-of-week field; none if it restricts nothing."""
    if _is_open(_WEEKDAY, word):
        return []
    items = word.split(",")
    if not any(map(_is_nth, items)):
        return [("*", _written(_WEEKDAY, _all_of(_WEEKDAY, items)))]
    return [("*", rule) for item in items for rule in _nth(item)]


def _is_nth(item: str) -> bool:
    return "#" in item or item.startswith("l")


def _nth(item: str) -> list[str]:
    if not _is_nth(item):
        raise _BadFieldError(f"the {_WEEKDAY.label} cannot mix plain days with '#' and 'L'")
    if item.startswith("l"):
        return [f"l{_value(_WEEKDAY, item.removeprefix('l'))}"]
    days, _, nth = item.partition("#")
    if nth not in ("1", "2", "3", "4", "5"):
        raise _BadFieldError(f"{item!r} must end in a week from #1 to #5")
    low, dash, high = days.partition("-")
    if dash and not (low in _WEEKDAYS and high in _WEEKDAYS):
        raise _BadFieldError(f"{item!r} must name its days, as in mon-fri#1")
    return [f"{day}#{nth}" for day in sorted(_item(_WEEKDAY, days) if dash else {_value(_WEEKDAY, low)})]


def _is_open(field: _Field, word: str) -> bool:
    """Whether a day field restricts nothing, because it matches every possible value."""
    items = word.split(",")
    if field is _WEEKDAY and any(map(_is_nth, items)) and "*" not in items:
        return False
    if field is _DAY and len(items) == 1 and "w" in word:
        return False
    plain = [item for item in items if field is not _DAY or item != "l"]
    every = set(range(field.lowest, field.highest + 1))
    if len(plain) < len(items):
        every.discard(field.highest)  # the 31st is always a last day
    return bool(plain) and _plain(field, ",".join(plain)) >= every


def _plain(field: _Field, word: str) -> set[int]:
    """Return the values that a field matches."""
    if word == "?":
        if field not in (_DAY, _WEEKDAY):
            raise _BadFieldError(f"the {field.label} cannot be '?'")
        word = "*"
    return _all_of(field, word.split(","))


def _all_of(field: _Field, items: Iterable[str]) -> set[int]:
    return set[int]().union(*(_item(field, item) for item in items))


def _item(field: _Field, item: str) -> set[int]:
    base, slash, step_text = item.partition("/")
    if slash and not (step_text.isdigit() and len(step_text) <= 4 and int(step_text) > 0):
        raise _BadFieldError(f"the step of {item!r} in the {field.label} must be a whole number of at least 1")
    if base == "*":
        run = list(range(field.lowest, field.highest + 1))
    else:
        first, dash, last = base.partition("-")
        if dash:
            run = _range(field, first, last)
        elif slash:
            run = list(range(_value(field, first), field.highest + 1))
        else:
            run = [_value(field, first)]
    return set(run[:: int(step_text) if slash else 1])


def _range(field: _Field, first: str, last: str) -> list[int]:
    """Return the values from `first` to `last`; the range may wrap around: fri-mon, 22-2."""
    low = _value(field, first)
    if field is _DAY and last == "l":
        return list(range(low, field.highest + 1))
    high = _value(field, last)
    if field is _WEEKDAY and last == "7" and first != "7":
        return [day % 7 for day in range(low, 8)]  # 0-7 is the whole week
    if low <= high:
        return list(range(low, high + 1))
    return [*range(low, field.highest + 1), *range(field.lowest, high + 1)]


def _value(field: _Field, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.lowest
    return 0 if field is _WEEKDAY and text == "7" else _number(field, text)


def _number(field: _Field, text: str) -> int:
    if not text.isdigit():
        names = f" or a name such as {field.names[0]}" if field.names else ""
        raise _BadFieldError(f"the {field.label} has {text!r} where a number{names} is expected")
    if len(text) > 4 or not field.lowest <= int(text) <= field.highest:
        highest = 7 if field is _WEEKDAY else field.highest
        raise _BadFieldError(f"the {field.label} must be from {field.lowest} to {highest}, not {text}")
    return int(text)


def _written(field: _Field, values: set[int]) -> str:
    return "*" if len(values) == field.highest - field.lowest + 1 else ",".join(map(str, sorted(values)))

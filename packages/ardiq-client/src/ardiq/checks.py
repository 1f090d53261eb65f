"""Checks values from the caller. Each check returns the value to use, or raises before any I/O.

A wrong type is a TypeError, a wrong value a ValueError. The message names the option and says what
it accepts.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import cast

from ardiq.errors import InvalidIdError

LONGEST_MS = 100 * 366 * 86_400_000
"""A hundred years: no delay, deadline or retention may be longer."""

LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: no absolute time may be later."""

MOST_HEADER_BYTES = 8192
"""The limit for the headers of a job.

W3C Baggage has the same limit: https://www.w3.org/TR/baggage/#limits.
"""

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/")


_NEAR = 0.4
"""How similar two names must be, from 0 to 1, for one to be suggested in place of the other."""

_ELSEWHERE = {
    "attempts": "max_retries",
    "countdown": "delay_ms",
    "cron": "schedule",
    "crontab": "schedule",
    "defer": "delay_ms",
    "eta": "schedule_ms",
    "job_id": "task_id",
    "lane": "priority",
    "lanes": "priorities",
    "max_tries": "max_retries",
    "misfire_grace_time": "max_schedule_drift",
    "queue": "queue_name",
    "run_at": "schedule_ms",
    "timezone": "tz",
    "ttl": "result_ttl_ms",
    "workers": "concurrency",
    "zone": "tz",
}
"""Names that other task queues, or users, have for our options."""


def did_you_mean(name: str, known: Collection[str], *, near: float = _NEAR) -> str:
    """Return the end of an error message, `; did you mean 'x'?`; empty if no `known` name resembles
    `name`.
    """
    from difflib import get_close_matches

    found = _ELSEWHERE.get(name)
    if found not in known:
        found = next(iter(get_close_matches(name, sorted(known), n=1, cutoff=near)), None)
    if found is None:
        return ""
    unit = ""
    if found.endswith("_ms") != name.endswith("_ms"):
        unit = " (milliseconds)" if found.endswith("_ms") else " (seconds)" if found == "timeout" else ""
    return f"; did you mean {found!r}{unit}?"


def check_new_attribute(app: object, name: str) -> None:
    """Raise AttributeError if `name` is a misspelled attribute of the app: setting it would have no
    effect.
    """
    known = [known for known in dir(type(app)) if not known.startswith("_")]
    if not name.startswith("_") and (hint := did_you_mean(name, known, near=0.8)):
        raise AttributeError(f"an app has no attribute {name!r}{hint}", name=name, obj=app)


def check_known(call: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError for the first of the `given` options that is not known; the message names the
    closest match.
    """
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"; it accepts {', '.join(known)}"
            raise TypeError(f"{call} has no option {name!r}{hint}")


def check_choice(label: str, value: object, known: Sequence[str]) -> None:
    """Raise unless `value` is one of the `known` words; the error names the closest match."""
    if not isinstance(value, str):
        raise TypeError(f"{label} must be a str, not {kind_of(value)}")
    if value not in known:
        words = f"{', '.join(known[:-1])} or {known[-1]}"
        raise ValueError(f"{label} must be {words}, not {value!r}{did_you_mean(value, known)}")


def kind_of(value: object) -> str:
    """Return the type of a value for an error message, never the value, which may be secret."""
    return "None" if value is None else type(value).__name__


def check_int(label: str, value: object, lowest: int, highest: int) -> int:
    """Accept an int within bounds, but no bool."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{label} must be an int, not {kind_of(value)}")
    if not lowest <= value <= highest:
        if value < lowest:
            raise ValueError(f"{label} must be at least {lowest}, not {value}")
        raise ValueError(f"{label} must be at most {highest}")
    return value


def check_bool(label: str, value: object) -> bool:
    """Accept True or False, and nothing that is merely truthy or falsy."""
    if not isinstance(value, bool):
        raise TypeError(f"{label} must be True or False, not {kind_of(value)}")
    return value


def check_seconds(label: str, value: object, *, zero: bool = False) -> float:
    """Accept a duration in seconds, as a number or a timedelta: finite, and positive unless `zero`
    is allowed.
    """
    amount = _duration(label, value)
    if not math.isfinite(amount):
        raise ValueError(f"{label} must be a finite number of seconds")
    if amount < 0 or (amount == 0 and not zero):
        raise ValueError(f"{label} must be {'zero or more' if zero else 'more than zero'} seconds, not {amount:g}")
    if amount * 1000 > LONGEST_MS:
        raise ValueError(f"{label} must be at most 100 years")
    return amount


def check_timeout_ms(value: object) -> int | None:
    """Return how long to wait for a result, in ms. None means not to wait.

    A longer time than 100 years is reduced to 100 years.
    """
    return None if value is None else _wait_ms(value, ", or None to check without waiting")


def check_abort_timeout_ms(value: object) -> int:
    """Return how long to wait for the end of an aborted job, in ms; 100 years at most."""
    return _wait_ms(value, "; 0 does not wait")


def _wait_ms(value: object, hint: str) -> int:
    amount = _duration("timeout", value)
    if math.isnan(amount) or amount < 0:
        raise ValueError(f"timeout must be zero or more seconds{hint}")
    return math.ceil(min(amount * 1000, LONGEST_MS))


def _duration(label: str, value: object) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{label} must be a number of seconds or a timedelta, not {kind_of(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{label} must be at most 100 years") from None


def check_job_id(value: object, label: str = "a job id") -> str:
    """Accept a job id, or another name of the same form: 1 to 256 printable characters without
    spaces.
    """
    if not isinstance(value, str):
        raise InvalidIdError(f"{label} must be a str, not {kind_of(value)}; convert it, for example with str()")
    if not 1 <= len(value) <= 256:
        raise InvalidIdError(f"{label} must have 1 to 256 characters; this one has {len(value)}")
    if not _printable(value):
        raise InvalidIdError(f"{label} must consist of printable characters without spaces")
    return value


def check_task_name(value: object) -> str:
    """Accept a task's name: 1 to 256 printable characters without spaces."""
    if not isinstance(value, str):
        raise TypeError(f"a task's name must be a str, not {kind_of(value)}")
    if not 1 <= len(value) <= 256:
        raise ValueError(f"a task's name must have 1 to 256 characters; this one has {len(value)}")
    if not _printable(value):
        raise ValueError(f"a task's name must consist of printable characters without spaces; got {value!r}")
    return value


def check_name(label: str, value: object) -> str:
    """Accept the name of a queue or a lane."""
    if not isinstance(value, str):
        raise TypeError(f"{label} must be a str, not {kind_of(value)}")
    if not value.strip():
        raise ValueError(f"{label} must not be blank")
    if len(value) > 128 or not _NAME_CHARACTERS.issuperset(value):
        raise ValueError(f"{label} must be at most 128 ASCII letters, digits or `_ - . : /`; got {value!r}")
    return value


def check_lanes(value: object) -> tuple[str, ...]:
    """Accept the lanes of an app, lowest first."""
    if value is None:
        return ("default",)
    kind = kind_of(value)
    if isinstance(value, str | bytes | Mapping | set | frozenset) or not isinstance(value, Iterable):
        raise TypeError(f"priorities must be a list of lane names, lowest first, not {kind}")
    names = tuple(check_name("a lane in priorities", lane) for lane in cast(Iterable[object], value))
    if not names:
        raise ValueError("priorities must name at least one lane; leave it out for the single lane 'default'")
    if len(set(names)) != len(names):
        raise ValueError(f"priorities must name each lane once; got {list(names)!r}")
    return names


def check_headers(value: object) -> dict[str, str] | None:
    """Return a copy of the headers of a job, a small dict of str to str."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"headers must be a dict that maps str to str, not {kind_of(value)}")
    copied: dict[str, str] = {}
    size = 0
    for key, text in cast(Mapping[object, object], value).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError("headers must be a dict that maps str to str; convert other values, for example with str()")
        if not key:
            raise ValueError("a header must have a name")
        try:
            size += len(key.encode()) + len(text.encode())
        except UnicodeEncodeError:
            raise ValueError("headers must be text that UTF-8 can encode: no lone surrogates") from None
        copied[key] = text
    if size > MOST_HEADER_BYTES:
        raise ValueError(
            f"headers have {size} bytes, more than the {MOST_HEADER_BYTES} that a job may carry; "
            "pass the data as an argument"
        )
    return copied or None


def _printable(text: str) -> bool:
    return text.isprintable() and " " not in text

"""JSON that every reader takes: RFC 8259, in ASCII, whatever Python values it is made of.

What JSON has no form for is shown as Python writes it: `"datetime.date(2026, 1, 1)"`, `"Decimal('1.5')"`, `"nan"`.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast

Json: TypeAlias = Any
"""What `json.dumps` can write; its type is recursive."""

DEEPEST = 100
"""Readers have limits too, and some are not much higher. What nests deeper is shown as Python writes it."""

_DOUBLE_BITS = 1023
"""Integers of so many bits are within the range of a double, which is how many readers keep them."""


def json_text(value: object, *, indent: int | None = None) -> str:
    """`value`, whatever it is, as JSON without control characters and without anything beyond ASCII.

    With `indent` there is a line for each member, and so many spaces for each level.
    """
    text = json.dumps(json_form(value), indent=indent, ensure_ascii=True, allow_nan=False)
    # The one control character that ASCII has and JSON does not require an escape for.
    return text.replace("\x7f", "\\u007f")


def json_form(value: object, levels: int = DEEPEST) -> Json:
    """`value` in terms of what JSON has."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        plain = int.__index__(value)
        return plain if plain.bit_length() <= _DOUBLE_BITS else python_form(plain)
    if isinstance(value, float):
        plain_float = float.__float__(value)
        return plain_float if math.isfinite(plain_float) else python_form(plain_float)
    if isinstance(value, dict | list | tuple | set | frozenset):
        if levels == 0:
            return _text(python_form(cast(object, value)))
        if isinstance(value, dict):
            return _object(cast(dict[object, object], value), levels - 1)
        items = [json_form(item, levels - 1) for item in cast(Iterable[object], value)]
        # A set has no order, and two looks at one job should show the same.
        return items if isinstance(value, list | tuple) else sorted(items, key=json.dumps)
    return _text(python_form(value))


def python_form(value: object) -> str:
    """`repr(value)`, or what stands for it when there is none."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a class may raise anything, and Python itself refuses huge integers and deep nesting
        return hex(value) if isinstance(value, int) else f"<{type(value).__name__} that cannot be shown>"


def _object(items: Mapping[object, object], levels: int) -> dict[str, Json]:
    """A key that is no string is named as Python writes it. When two keys have one name, the second gets a number."""
    found: dict[str, Json] = {}
    for key, item in sorted(items.items(), key=lambda pair: not isinstance(pair[0], str)):
        name = free = _text(key if isinstance(key, str) else python_form(key))
        count = 1
        while free in found:
            count += 1
            free = f"{name} ({count})"
        found[free] = json_form(item, levels)
    return found


def _text(value: str) -> str:
    # A lone surrogate has no encoding, and many readers refuse its escape.
    return str.__str__(value).encode("utf-8", "backslashreplace").decode("utf-8")

"""Converts any Python value to ASCII JSON that conforms to RFC 8259.

Values without a JSON equivalent become strings in Python notation: `"datetime.date(2026, 1, 1)"`,
`"Decimal('1.5')"`, `"nan"`.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast

Json: TypeAlias = Any
"""A value that `json.dumps` can write; the exact type would be recursive."""

DEEPEST = 100
"""JSON parsers limit the depth too, some not much higher.

Deeper values become strings in Python notation.
"""

_DOUBLE_BITS = 1023
"""Integers up to this many bits fit into the range of a double, which many JSON parsers use."""


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return any `value` as JSON without control characters or non-ASCII characters.

    With `indent`, each member gets a line, indented by that many spaces per level.
    """
    text = json.dumps(json_form(value), indent=indent, ensure_ascii=True, allow_nan=False)
    # The only ASCII control character that JSON does not require to be escaped.
    return text.replace("\x7f", "\\u007f")


def json_form(value: object, levels: int = DEEPEST) -> Json:
    """Convert `value` to types that JSON supports."""
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
        # A set has no order, but two listings of one job should be identical.
        return items if isinstance(value, list | tuple) else sorted(items, key=json.dumps)
    return _text(python_form(value))


def python_form(value: object) -> str:
    """Return `repr(value)`, or a substitute if it raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a class may raise anything, and Python itself refuses huge integers and deep nesting
        return hex(value) if isinstance(value, int) else f"<{type(value).__name__} that cannot be shown>"


def _object(items: Mapping[object, object], levels: int) -> dict[str, Json]:
    """Convert a mapping.

    Keys that are not strings use Python notation. If two keys collide, the second gets a number.
    """
    found: dict[str, Json] = {}
    counts: dict[str, int] = {}
    for key, item in sorted(items.items(), key=lambda pair: not isinstance(pair[0], str)):
        name = free = _text(key if isinstance(key, str) else python_form(key))
        while free in found:
            counts[name] = counts.get(name, 1) + 1
            free = f"{name} ({counts[name]})"
        found[free] = json_form(item, levels)
    return found


def _text(value: str) -> str:
    # A lone surrogate has no encoding, and many parsers reject its escape.
    return str.__str__(value).encode("utf-8", "backslashreplace").decode("utf-8")

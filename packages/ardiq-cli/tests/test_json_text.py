"""JSON of any values in jobs: always valid, always ASCII, and nothing is hidden."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ardiq_cli.json_text import DEEPEST, json_text


def strict(text: str) -> Any:
    """Parse JSON strictly: reject repeated names and NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    found = json.loads(text, parse_constant=refuse, object_pairs_hook=once)
    json.dumps(found, ensure_ascii=False).encode()  # no lone surrogates
    return found


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Loud(str):
    def __str__(self) -> str:
        raise RuntimeError("no")


NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDENTITY = UUID(int=5)

SHOWN: list[tuple[object, object]] = [
    (None, None),
    (True, True),
    (2**70, 2**70),
    (10**5000, hex(10**5000)),
    (-(10**5000), hex(-(10**5000))),
    (1.5, 1.5),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (-float("inf"), "-inf"),
    ("größe", "größe"),
    ("\x1b[31m\x7f\x9b\u202e\u2028\n", "\x1b[31m\x7f\x9b\u202e\u2028\n"),
    ("\ud800", "\\ud800"),
    ("\ud83d\ude00", "\\ud83d\\ude00"),
    (b"\x00", "b'\\x00'"),
    (NOW, repr(NOW)),
    (date(2026, 1, 1), "datetime.date(2026, 1, 1)"),
    (time(1), "datetime.time(1, 0)"),
    (timedelta(1), "datetime.timedelta(days=1)"),
    (Decimal("1.50"), "Decimal('1.50')"),
    (Decimal("NaN"), "Decimal('NaN')"),
    (IDENTITY, repr(IDENTITY)),
    ((1, (2, [3])), [1, [2, [3]]]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({b"x", 1, "a", None}, ['"', "b'x'", 1, None]),
    ({(1, 2): 3}, {"(1, 2)": 3}),
    ({1: "a", "1": "b", b"1": "c", None: 0}, {"1": "b", "1 (2)": "a", "b'1'": "c", "None": 0}),
    ({"\ud800": 1, "\\ud800": 2}, {"\\ud800": 1, "\\ud800 (2)": 2}),
    ({frozenset({(1,)}): {NOW: [b""]}}, {"frozenset({(1,)})": {repr(NOW): ["b''"]}}),
    (Broken(), "<Broken that cannot be shown>"),
    ({(10**5000,): 1}, {"<tuple that cannot be shown>": 1}),
    (Loud("text"), "text"),
    ({Loud("text"): 1}, {"text": 1}),
]


@pytest.mark.parametrize(("value", "shown"), SHOWN, ids=range(len(SHOWN)))
@pytest.mark.parametrize("indent", [None, 2])
def test_every_value_has_a_form(value: object, shown: object, indent: int | None) -> None:
    found = strict(json_text({"args": [value]}, indent=indent))["args"][0]
    if isinstance(value, set) and None in value:
        assert sorted(map(str, found)) == sorted(["a", "b'x'", "1", "None"])
    else:
        assert found == shown


@pytest.mark.parametrize("depth", [DEEPEST - 1, DEEPEST + 1, 500, 100_000])
@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"deeper": inner}, lambda inner: (inner,)])
def test_depth_is_bounded(depth: int, wrap: Any) -> None:
    value: object = 1
    for _ in range(depth):
        value = wrap(value)
    strict(json_text(value))


def test_keys_with_the_same_name_take_no_longer_each() -> None:
    many = {float("nan"): number for number in range(60_000)}
    assert len(strict(json_text(many))) == len(many)

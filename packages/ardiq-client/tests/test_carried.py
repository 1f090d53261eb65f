"""The documentation lists the values that arrive with another type.

Everything similar is refused.
"""

import collections
import dataclasses
import enum
import fractions
import io
import os
import pathlib
import struct
import subprocess
import sys
import time as clock
import types
import uuid
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from ardiq._encoding.codec import Codec
from ardiq.errors import SerializationError
from ardiq.results import TaskResult, TaskStatus

codec = Codec()


def arrives(value: Any) -> Any:
    args, kwargs = codec.decode_call(codec.encode_call((value,), {"key": [value]}))
    returned = codec.decode_value(codec.encode_value({"key": (value,)}))
    assert type(args[0]) is type(kwargs["key"][0]) is type(returned["key"][0])
    return args[0]


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


class Text(str, enum.Enum):  # noqa: UP042 - as people have written it for years
    A = "a"


class Loud(str):
    def __str__(self) -> str:
        return self.upper()


class Big(int): ...


class Real(float): ...


class Raw(bytes): ...


class Items(list[Any]): ...


class Members(set[Any]): ...


class Frozen(frozenset[Any]): ...


class Moment(datetime):
    def isoformat(self, *args: Any, **kwargs: Any) -> str:
        return "now"


class Day(date): ...


class Clock(time): ...


class Span(timedelta): ...


class Id(uuid.UUID): ...


class Money(Decimal):
    def __str__(self) -> str:
        return f"${super().__str__()}"


NUMBERS: defaultdict[str, int] = defaultdict(int, {"a": 1})
SUBCLASSES: list[tuple[Any, Any]] = [
    (Colour.RED, "red"),
    (TaskStatus.RUNNING, "running"),
    (Text.A, "a"),
    (Loud("quiet"), "quiet"),
    (Level.HIGH, 3),
    (Right.READ | Right.WRITE, 3),
    (Big(2**80), 2**80),
    (Real(1.5), 1.5),
    (Raw(b"x"), b"x"),
    (bytearray(b"x"), b"x"),
    (memoryview(b"x"), b"x"),
    (OrderedDict(a=1), {"a": 1}),
    (NUMBERS, {"a": 1}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (Items([1]), [1]),
    (Members({1}), {1}),
    (Frozen({1}), frozenset({1})),
    (Moment(2026, 10, 25, 2, 30, fold=1), datetime(2026, 10, 25, 2, 30, fold=1)),
    (Moment(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))),
    (Day(2026, 1, 1), date(2026, 1, 1)),
    (Clock(1, 2, 3), time(1, 2, 3)),
    (Span(days=-1, microseconds=5), timedelta(days=-1, microseconds=5)),
    (Id("12345678123456781234567812345678"), uuid.UUID("12345678123456781234567812345678")),
    (Money("1.10"), Decimal("1.10")),
]


@pytest.mark.parametrize(("value", "base"), SUBCLASSES, ids=[type(value).__name__ for value, _ in SUBCLASSES])
def test_a_value_that_is_documented_to_arrives_as_its_base(value: Any, base: Any) -> None:
    read = arrives(value)
    assert type(read) is type(base)
    assert read == base == value or isinstance(value, memoryview)
    assert getattr(read, "fold", 0) == getattr(base, "fold", 0)


Point = namedtuple("Point", "x y")


class Typed(NamedTuple):
    x: int


class Pair(tuple[int, int]): ...


@dataclasses.dataclass
class Data:
    x: int


class Plain(enum.Enum):
    A = "a"


class Finer(datetime):
    """Stands for a subclass with nanoseconds, which a plain datetime cannot hold."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__


class FinerSpan(timedelta):
    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = timedelta.__hash__


class Moving(tzinfo):
    """A zone whose offset depends on the date, and which has no key to find it by."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return None if when is None else timedelta(hours=when.month // 7 + 1)

    def dst(self, when: datetime | None) -> timedelta | None:
        return None

    def tzname(self, when: datetime | None) -> str:
        return "moving"


class Nowhere(Moving):
    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return None


PROXY: Any = type("Proxy", (), {"__class__": property(lambda self: str)})()
"""An object that claims to be a string, like lazy strings of frameworks."""


def unknown_zone() -> ZoneInfo:
    header = b"TZif" + bytes(16) + struct.pack(">6i", 0, 0, 0, 0, 1, 4)
    return ZoneInfo.from_file(io.BytesIO(header + bytes(6) + b"OWN\0"), key="My/Own")


REFUSED: list[Any] = [
    Point(1, [2]),
    Typed(1),
    Pair((1, 2)),
    clock.gmtime(0),
    TaskResult(True, 1, 1, 1, 1, 1),
    Data(1),
    Plain.A,
    *(1j, range(3), slice(1), fractions.Fraction(1, 3), deque([1]), ChainMap({}), UserDict(a=1), UserList([1])),
    *(pathlib.PurePosixPath("/"), types.SimpleNamespace(a=1), types.MappingProxyType({"a": 1}), {"a": 1}.keys()),
    *(collections.OrderedDict, len, object(), Ellipsis, NotImplemented, iter([]), PROXY),
    Finer(2026, 1, 1),
    FinerSpan(1),
    datetime(2026, 1, 1, tzinfo=Nowhere()),
    time(1, tzinfo=Moving()),
]


@pytest.mark.parametrize("value", REFUSED, ids=[type(value).__name__ for value in REFUSED])
def test_a_value_that_would_arrive_as_something_else_is_refused(value: Any) -> None:
    for nested in (value, [value], (value,), {"k": value}, {"k": ({1: [value]},)}):
        with pytest.raises(SerializationError, match="argument 0"):
            codec.encode_call((nested,), {})
        with pytest.raises(SerializationError, match="the value"):
            codec.encode_value(nested)


def test_a_named_tuple_says_what_to_pass_instead() -> None:
    with pytest.raises(SerializationError, match=r"a Point would arrive as a plain tuple; pass tuple\(\.\.\.\)"):
        codec.encode_value([Point(1, 2)])


def test_a_zone_that_the_reader_could_not_find_is_refused() -> None:
    for value in (datetime(2026, 1, 1, tzinfo=unknown_zone()), time(1, tzinfo=unknown_zone())):
        with pytest.raises(SerializationError, match="time zone cannot be found"):
            codec.encode_value(value)


def test_an_offset_arrives_without_the_name_of_its_zone() -> None:
    named = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2), "CEST"))
    moving = datetime(2026, 7, 1, 12, tzinfo=Moving())
    for value in (named, moving):
        read = arrives(value)
        assert read == value
        assert read.tzinfo == timezone(timedelta(hours=2))


FOLDS = [
    datetime(2026, 10, 25, 2, 30, fold=1),
    datetime(2026, 10, 25, 2, 30),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2026, 1, 1, tzinfo=UTC, fold=1),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1)), fold=1),
    time(2, 30, fold=1),
    time(2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    time(2, 30, tzinfo=UTC, fold=1),
]


@pytest.mark.parametrize("value", FOLDS, ids=str)
def test_a_fold_arrives(value: Any) -> None:
    read = arrives(value)
    assert (read.fold, read.replace(tzinfo=None)) == (value.fold, value.replace(tzinfo=None))
    assert read.utcoffset() == value.utcoffset()
    assert type(read.tzinfo) is type(value.tzinfo)


def test_the_second_half_past_two_stays_the_second() -> None:
    script = """
import time; time.tzset()
from datetime import datetime
from ardiq._encoding.codec import Codec
codec, moment = Codec(), datetime.fromtimestamp(1792891800)
print(moment.fold, codec.decode_value(codec.encode_value(moment)).timestamp())
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TZ": "Europe/Berlin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["1", "1792891800.0"]


def test_times_that_an_older_release_has_sent_are_read() -> None:
    from ardiq._encoding.extensions import DATETIME, decode_other

    berlin = ZoneInfo("Europe/Berlin")
    read = decode_other(DATETIME, b"2026-10-25T02:30:00+01:00[Europe/Berlin]")
    assert read == datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1)
    assert isinstance(read, datetime)
    assert (read.fold, read.tzinfo) == (1, berlin)

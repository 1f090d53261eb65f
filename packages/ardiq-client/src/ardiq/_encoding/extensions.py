"""Encodes values beyond plain msgpack as extension types, so they arrive with their own type.

A tuple or a set is encoded as an array whose first element is an empty extension that says which of
them it is. Its items are ordinary parts of the message, so there is no message inside a message,
one depth limit applies to all, and nothing here is recursive. Every other value is an extension in
a form that other programs can read too: ISO 8601 with the zone's name in brackets (RFC 9557),
decimal digits, or big-endian integers. Codes are part of the stored format, so the meaning of a
code never changes.

RFC 9557 reserves names with an underscore for private use. When clocks are set back, some times
occur twice that day. `[_fold=1]` marks the second occurrence, which nothing else would show for a
time without a zone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ardiq._encoding import Extension

if TYPE_CHECKING:
    from decimal import Decimal
    from typing import TypeGuard
    from uuid import UUID
    from zoneinfo import ZoneInfo

T = TypeVar("T")

TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
DATETIME: Final = 4
DATE: Final = 5
TIME: Final = 6
TIMEDELTA: Final = 7
UUID_CODE: Final = 8
DECIMAL: Final = 9
BIG_INT: Final = 10

MARKED: Final = b"\xc7\x00"
"""The first bytes of an empty extension: in a message without them there is no tuple and no set."""

_MICROSECOND = timedelta(microseconds=1)
_FOLD: Final = "_fold=1"


class Unreadable(ValueError):
    """An extension cannot be decoded; its message shows nothing of the data."""


class _Mark:
    """What the first element of a marked array decodes to."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[list[object]], object]) -> None:
        self.make = make


def encode_other(value: object) -> object:
    """Return what msgpack packs in place of a value that it does not know.

    Raises TypeError if the type is not supported.
    """
    encoder = _encoders.get(type(value))
    if encoder is None:
        encoder = _encoder_of_base(value)
    return encoder(value)


def restore(items: list[object]) -> object:
    """Return what an array stands for: the list itself, or the tuple or set that its mark
    announces.
    """
    return items[0].make(items[1:]) if items and isinstance(items[0], _Mark) else items


def _marked(code: int) -> Callable[[Any], object]:
    mark = Extension(code, b"")

    def encode(value: Iterable[object]) -> list[object]:
        return [mark, *value]

    return encode


def _encode_datetime(value: datetime) -> object:
    return Extension(DATETIME, _with_zone(datetime.isoformat(value), value))


def _encode_time(value: time) -> object:
    return Extension(TIME, _with_zone(time.isoformat(value), value))


def _with_zone(text: str, value: datetime | time) -> bytes:
    zone = value.tzinfo
    if zone is not None and "zoneinfo" in sys.modules and _is_zone_info(zone) and zone.key:
        _look_up(zone.key)
        text = f"{text}[{zone.key}]"
    elif zone is not None and value.utcoffset() is None:
        raise TypeError(f"the offset of its time zone, of type {type(zone).__name__}, is not fixed; use a ZoneInfo")
    return (f"{text}[{_FOLD}]" if value.fold else text).encode()


def _look_up(key: str) -> None:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(key)
    except Exception as error:
        raise TypeError("its time zone cannot be found by its name") from error


def _is_zone_info(zone: tzinfo) -> TypeGuard[ZoneInfo]:
    from zoneinfo import ZoneInfo

    return isinstance(zone, ZoneInfo)


def _encode_date(value: date) -> object:
    return Extension(DATE, date.isoformat(value).encode())


def _encode_timedelta(value: timedelta) -> object:
    return Extension(TIMEDELTA, _integer_bytes(value // _MICROSECOND))


def _encode_uuid(value: UUID) -> object:
    return Extension(UUID_CODE, value.bytes)


def _encode_decimal(value: Decimal) -> object:
    from decimal import Decimal

    return Extension(DECIMAL, Decimal.__str__(value).encode())  # a subclass may print itself otherwise


def _encode_int(value: int) -> object:
    plain = int.__index__(value)
    return plain if -(2**63) <= plain < 2**64 else Extension(BIG_INT, _integer_bytes(plain))


def _integer_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


_encoders: dict[type, Callable[[Any], object]] = {
    tuple: _marked(TUPLE),
    set: _marked(SET),
    frozenset: _marked(FROZENSET),
    datetime: _encode_datetime,
    date: _encode_date,
    time: _encode_time,
    timedelta: _encode_timedelta,
    int: _encode_int,
}

# An instance of a subclass arrives as the base class if that loses no information;
# docs/how-to/defining-tasks.md lists these. A named tuple carries more than a tuple.
_by_base: list[tuple[type, Callable[[Any], object]]] = [
    (str, str.__str__),
    (int, _encode_int),
    (float, float.__float__),
    (dict, dict[Any, Any]),
    (list, list[Any]),
    (bytes, lambda value: bytes(memoryview(value))),
    *((base, _encoders[base]) for base in (set, frozenset)),
    (datetime, lambda value: _encode_datetime(_equal(datetime.combine(date(*_date(value)), _time_of(value)), value))),
    (date, lambda value: _encode_date(_equal(date(*_date(value)), value))),
    (time, lambda value: _encode_time(_equal(_time_of(value), value))),
    (
        timedelta,
        lambda value: _encode_timedelta(_equal(timedelta(value.days, value.seconds, value.microseconds), value)),
    ),
]


def _date(value: date) -> tuple[int, int, int]:
    return value.year, value.month, value.day


def _time_of(value: datetime | time) -> time:
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return time(*clock, tzinfo=value.tzinfo, fold=value.fold)


def _equal(base: T, value: T) -> T:
    """Return `base` if it equals `value`, an instance of a subclass: some subclasses count
    nanoseconds.
    """
    if not base == value:  # not `!=`: the subclass may define equality alone
        raise TypeError(
            f"a {type(value).__name__} with more precision than a {type(base).__name__} is not supported; round it first"
        )
    return base


def _encoder_of_base(value: object) -> Callable[[Any], object]:
    # Do not import these modules: as long as a module is not loaded, no value of its types can
    # exist.
    kind = type(value)  # a proxy may lie about its `__class__`
    if (module := sys.modules.get("uuid")) is not None and issubclass(kind, module.UUID):
        return _encode_uuid
    if (module := sys.modules.get("decimal")) is not None and issubclass(kind, module.Decimal):
        return _encode_decimal
    for base, encoder in _by_base:
        if issubclass(kind, base):
            return encoder
    if issubclass(kind, tuple):
        raise TypeError(f"a {kind.__name__} would arrive as a plain tuple; pass tuple(...) or its _asdict()")
    raise TypeError(f"a value of type {kind.__name__} is not supported")


def decode_other(code: int, data: bytes) -> object:
    """Return the value of an extension. Raises Unreadable if it is not one of ours."""
    decoder = _decoders.get(code)
    if decoder is None:
        raise Unreadable(f"extension type {code} is unknown; it may come from a newer ArdiQ")
    return decoder(data)


def _mark_of(make: Callable[[list[object]], object]) -> Callable[[bytes], object]:
    mark = _Mark(make)

    def decode(data: bytes) -> _Mark:
        if data:
            raise Unreadable("a mark is not empty")
        return mark

    return decode


def _decode_datetime(data: bytes) -> datetime:
    text, zone, fold = _split_zone(data)
    moment = datetime.fromisoformat(text).replace(fold=fold)
    if zone is None:
        return moment if (offset := _offset_below_a_second(text)) is None else moment.replace(tzinfo=offset)
    wall = moment.replace(tzinfo=zone)
    for candidate in (wall, wall.replace(fold=1 - fold)):
        if candidate.utcoffset() == moment.utcoffset():
            return candidate
    return moment.astimezone(zone)  # the rules of the zone differ here: keep the instant


def _decode_time(data: bytes) -> time:
    text, zone, fold = _split_zone(data)
    moment = time.fromisoformat(text).replace(fold=fold)
    offset = zone or _offset_below_a_second(text)
    return moment if offset is None else moment.replace(tzinfo=offset)


def _offset_below_a_second(text: str) -> timezone | None:
    """Return the UTC offset at the end of `text` if it is below a second: `fromisoformat` reads
    such an offset as UTC.
    """
    sign, seconds, microseconds = text[-16:-15], text[-15:-6], text[-6:]
    if not sign or sign not in "+-" or seconds != "00:00:00.":
        return None
    return timezone(int(sign + microseconds) * _MICROSECOND)


def _split_zone(data: bytes) -> tuple[str, ZoneInfo | None, int]:
    text, *tags = data.decode().replace("]", "").split("[")
    names = [tag for tag in tags if tag != _FOLD]
    if not names:
        return text, None, len(tags)
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return text, ZoneInfo(names[0]), len(tags) - len(names)
    except ZoneInfoNotFoundError as error:
        raise Unreadable("a time zone is not known here; pip install tzdata") from error


def _decode_timedelta(data: bytes) -> timedelta:
    days, microseconds = divmod(int.from_bytes(data, "big", signed=True), 86_400_000_000)
    return timedelta(days=days, microseconds=microseconds)


def _decode_uuid(data: bytes) -> UUID:
    from uuid import UUID

    return UUID(bytes=data)


def _decode_decimal(data: bytes) -> Decimal:
    from decimal import Decimal

    return Decimal(data.decode())


_decoders: dict[int, Callable[[bytes], object]] = {
    TUPLE: _mark_of(tuple),
    SET: _mark_of(set),
    FROZENSET: _mark_of(frozenset),
    DATETIME: _decode_datetime,
    DATE: lambda data: date.fromisoformat(data.decode()),
    TIME: _decode_time,
    TIMEDELTA: _decode_timedelta,
    UUID_CODE: _decode_uuid,
    DECIMAL: _decode_decimal,
    BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
}

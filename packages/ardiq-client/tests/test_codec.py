"""What the codec encodes and what it refuses. No input can harm it."""

import enum
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ardiq._encoding import Extension, Packer
from ardiq._encoding.codec import Codec
from ardiq.errors import SerializationError

codec = Codec()
BERLIN = ZoneInfo("Europe/Berlin")


def type_name(value: object) -> str:
    """Return a test id that is the same in every process, unlike the value's repr."""
    return type(value).__name__


VALUES: list[Any] = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    2**70,
    -(2**4000),
    1.5,
    math.inf,
    "",
    "grüße \U0001f980",
    b"\x00\xff",
    [],
    [1, [2, [3]]],
    (),
    (1, "a", None),
    (1, (2, [3, (4,)])),
    [(1, 2), (3, 4)],
    {"a": (1, [2])},
    {(1, 2): "tuple key", 3: "int key", None: "none key", frozenset({1}): "set key"},
    set(),
    {1, 2, 3},
    frozenset({"a", (1, 2)}),
    datetime(2026, 11, 22, 3, 4, 5, 678901),
    datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC),
    datetime(2026, 11, 22, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    datetime(2026, 7, 1, 12, tzinfo=BERLIN),
    datetime.min,
    datetime.max,
    date(2026, 11, 22),
    time(3, 4, 5, 6),
    time(3, 4, tzinfo=UTC),
    timedelta(0),
    timedelta(days=-1, microseconds=1),
    timedelta.max,
    timedelta.min,
    UUID("12345678123456781234567812345678"),
    Decimal("1.10"),
    Decimal("-Infinity"),
    Decimal("1E+400"),
]


@pytest.mark.parametrize("value", VALUES, ids=type_name)
def test_a_value_arrives_as_what_it_was(value: Any) -> None:
    read = codec.decode_value(codec.encode_value(value))
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("value", VALUES, ids=type_name)
def test_an_argument_arrives_as_what_it_was(value: Any) -> None:
    args, kwargs = codec.decode_call(codec.encode_call((value, 1), {"key": value}))
    assert (args, kwargs) == ((value, 1), {"key": value})
    assert _shape(args[0]) == _shape(value)


def with_fold(moments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(lambda moment, fold: moment.replace(fold=fold), moments, st.integers(0, 1))


offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    with_fold(st.datetimes(timezones=st.none() | st.timezones() | offsets)),
    st.dates(),
    with_fold(st.times(timezones=st.none() | st.timezones() | offsets)),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
)
keys = st.recursive(plain, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
    ),
    max_leaves=20,
)


# The first use of a time zone reads its file, which may take long.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
@example(time(tzinfo=timezone(timedelta(microseconds=1))))
@example(time(1, 2, 3, 4, tzinfo=timezone(-timedelta(microseconds=999_999))))
@example(datetime(2026, 11, 26, tzinfo=timezone(-timedelta(microseconds=1)), fold=1))
def test_any_nesting_of_values_arrives_equal_and_of_the_same_types(value: Any) -> None:
    read = codec.decode_value(codec.encode_value(value))
    assert read == value
    assert _shape(read) == _shape(value)


def _shape(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return (type(value), [_shape(item) for item in value])
    if isinstance(value, dict):
        return (dict, [(_shape(key), _shape(item)) for key, item in value.items()])
    if isinstance(value, datetime | time):  # Python's comparison ignores the fold and the name of the zone
        return (type(value), value.fold, value.replace(tzinfo=None), type(value.tzinfo), str(value.tzinfo))
    if isinstance(value, float | Decimal):
        return (type(value), str(value))  # with the sign of a zero
    return type(value)


def test_a_nan_stays_one() -> None:
    assert math.isnan(codec.decode_value(codec.encode_value(math.nan)))
    assert codec.decode_value(codec.encode_value(Decimal("sNaN"))).is_snan()


def test_a_zone_keeps_its_name_and_both_sides_of_a_fold() -> None:
    for fold in (0, 1):
        value = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=fold)
        read = codec.decode_value(codec.encode_value(value))
        assert read.tzinfo is BERLIN
        assert (read.fold, read.utcoffset()) == (fold, value.utcoffset())


def test_a_time_of_a_named_zone_keeps_it() -> None:
    read = codec.decode_value(codec.encode_value(time(2, 30, tzinfo=BERLIN)))
    assert read == time(2, 30, tzinfo=BERLIN)
    assert read.tzinfo is BERLIN


def test_an_unknown_zone_says_what_is_missing() -> None:
    data = Packer().pack(Extension(4, b"2026-01-01T00:00:00+00:00[Nowhere/Land]"))
    with pytest.raises(SerializationError, match="pip install tzdata"):
        codec.decode_value(data)


def test_a_large_int_subclass_arrives() -> None:
    class Big(int):
        pass

    assert codec.decode_value(codec.encode_value([Big(2**80)])) == [2**80]


class Plain(enum.Enum):
    A = 1


@pytest.mark.parametrize("value", [object(), Plain.A, print, 1j, range(3), object, iter([])], ids=type_name)
def test_what_cannot_be_carried_is_refused_with_advice(value: Any) -> None:
    def send(user: object, when: object) -> None: ...

    for args, kwargs, label in (
        ((1, value), {}, r"argument 1 \('when'\)"),
        ((1, [{"deep": (value,)}]), {}, r"argument 1 \('when'\)"),
        ((), {"user": value}, "argument 'user'"),
    ):
        with pytest.raises(SerializationError, match=label) as refused:
            codec.encode_call(args, kwargs, send)
        assert isinstance(refused.value, TypeError)
        assert type(value).__name__ in str(refused.value)
        assert "pass plain data" in str(refused.value)
    with pytest.raises(SerializationError, match="argument 0, of type"):
        codec.encode_call((value,), {})
    with pytest.raises(SerializationError, match="the value, of type"):
        codec.encode_value(value)


def test_a_refusal_shows_no_values() -> None:
    class Token:
        def __repr__(self) -> str:
            return "canary"

    with pytest.raises(SerializationError) as refused:
        codec.encode_call(("canary", Token()), {"a": {"canary": 1}})
    assert "canary" not in str(refused.value)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(SerializationError, match="lone surrogate"):
        codec.encode_call(("\ud800",), {})


def _nested(depth: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = [
    pytest.param(lambda v: [v], id="list"),
    pytest.param(lambda v: (v,), id="tuple"),
    pytest.param(lambda v: {"k": v}, id="dict"),
    pytest.param(lambda v: frozenset({v}), id="frozenset"),
    pytest.param(lambda v: [(v,)], id="list and tuple"),
    pytest.param(lambda v: ({(1, 2): v},), id="behind a tuple as key"),
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_deep_nesting_is_refused_and_does_not_crash(wrap: Any) -> None:
    with pytest.raises(SerializationError, match="deep"):
        codec.encode_value(_nested(20_000, wrap))


@pytest.mark.parametrize("wrap", WRAPS[:5])
def test_moderate_nesting_arrives(wrap: Any) -> None:
    value = _nested(60, wrap)
    assert codec.decode_value(codec.encode_value(value)) == value


def test_whatever_depth_is_accepted_can_be_read() -> None:
    accepted = 0
    for depth in range(1000, 1040):
        try:
            data = codec.encode_call((_nested(depth, lambda v: [v]),), {})
        except SerializationError:
            continue
        accepted = depth
        codec.decode_call(data)
    assert 1000 < accepted < 1039


def test_what_contains_itself_is_refused() -> None:
    direct: list[Any] = []
    direct.append(direct)
    mapped: dict[str, Any] = {}
    mapped["self"] = mapped
    through_tuple: list[Any] = []
    deep: Any = through_tuple
    for _ in range(900):
        deep = [deep]
    through_tuple.append((deep,))
    for value in (direct, mapped, through_tuple):
        with pytest.raises(SerializationError, match=r"argument 0.*contains itself"):
            codec.encode_call((value,), {})


BAD_DATA = {
    "empty": b"",
    "cut": b"\x92\x01",
    "trailing": b"\x01\x01",
    "reserved": b"\xc1",
    "deep lists": b"\x91" * 100_000,
    "deep tuples": b"\xc7\x02\x01\x91" * 2,
    "announced array": b"\xdd\xff\xff\xff\xff",
    "announced arrays": b"\xdd\x00\x0f\xff\xff" * 50_000,
    "announced map": b"\xdf\xff\xff\xff\xff",
    "announced bytes": b"\xc6\xff\xff\xff\xff",
    "unknown extension": b"\xd4\x63\x00",
    "timestamp as bytes": b"\xc7\x05\x04abcde",
    "date": b"\xd6\x052026",
    "uuid": b"\xd4\x08\x00",
    "decimal": b"\xd6\x09abcd",
    "duration": b"\xd8\x07" + b"\x7f" * 16,
    "bad text": b"\xa1\xff",
    "list as key": b"\x81\x90\x01",
    "set of lists": b"\xd5\x02\x91\x90",
    "tuple of a number": b"\xd4\x01\x05",
}


@pytest.mark.parametrize("data", BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_an_error_of_ours(data: bytes) -> None:
    for decode in (codec.decode_value, codec.decode_call):
        with pytest.raises(SerializationError, match=f"{len(data)} bytes"):
            decode(data)


def test_tuples_nested_by_hand_end_in_an_error() -> None:
    data = b"\x91\x01"
    for _ in range(3000):
        data = Packer().pack([Extension(1, data)])
    with pytest.raises(SerializationError):
        codec.decode_value(data)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_data_is_a_value_or_an_error_of_ours(data: bytes) -> None:
    for decode in (codec.decode_value, codec.decode_call):
        try:
            decode(data)
        except SerializationError:
            continue


def test_announced_lengths_reserve_no_memory(tmp_path: Any) -> None:
    import tracemalloc

    data = b"\xdd\x00\x0f\xff\xff" * 200 + b"\x00" * 1_048_576
    tracemalloc.start()
    try:
        with pytest.raises(SerializationError):
            codec.decode_value(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000


@pytest.mark.parametrize("data", [b"\x90", b"\x01", b"\x92\x80\x80", b"\x92\x90\x90", b"\x93\x90\x80\x01"], ids=repr)
def test_what_is_no_call_is_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="cannot be decoded"):
        codec.decode_call(data)

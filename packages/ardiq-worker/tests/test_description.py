"""Exceptions as text: ordinary ones exactly as in Python, large ones in bounded memory."""

import traceback
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardiq_worker import description, outcome

MB = 1024 * 1024

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.binary(max_size=30)
    | st.binary(max_size=30).map(bytearray)
    | st.text(alphabet="a'\"\\", max_size=30) | st.text(alphabet="a'\"\\", max_size=30).map(str.encode)
    | st.frozensets(st.integers(), max_size=5) | st.sets(st.text(max_size=9), max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(max_size=9), inner, max_size=5) | st.lists(inner, max_size=3).map(lambda args: KeyError(*args)),
    max_leaves=20,
)  # fmt: skip


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - any, and it is what is looked at
        return caught


@settings(deadline=None)
@given(st.lists(VALUES, max_size=4))
def test_an_ordinary_exception_is_described_by_python(args: list[Any]) -> None:
    for error in (ValueError(*args), KeyError(*args)):
        assert description.represent(error) == repr(error)
        assert description.message(error) == str(error)


@settings(deadline=None, max_examples=500)
@given(st.lists(VALUES, max_size=4), st.integers(1, 60))
def test_of_a_large_exception_the_text_begins_as_that_of_python(args: list[Any], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(description, "MAX_TEXT", limit)
        for error in (ValueError(*args), KeyError(*args)):
            assert description.represent(error)[:limit] == repr(error)[:limit]
            assert description.message(error)[:limit] == str(error)[:limit]


def test_containers_that_hold_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    items: list[Any] = [1]
    items.append(({"key": items}, items))
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    error = ValueError(items, mapping)
    assert description.represent(error) == repr(error)
    error = ValueError("x" * description.MAX_TEXT, items)
    assert description.represent(error)[: description.MAX_TEXT] == repr(error)[: description.MAX_TEXT]


class OwnText(Exception):
    def __str__(self) -> str:
        return str(self.args[0])

    __repr__ = __str__


def noted() -> Exception:
    error = ValueError("noted")
    error.add_note("x" * 8 * MB)
    return error


def undecodable() -> Exception:
    return UnicodeDecodeError("utf-8", b"\xff" * 8 * MB, 0, 1, "invalid start byte")


def nested() -> Exception:
    return ExceptionGroup("group", [ValueError(b"\x01" * 8 * MB), KeyError({"body": [b"\x01" * 8 * MB]})])


def related() -> Exception:
    error = RuntimeError("outer")
    error.__cause__ = raised(ValueError(b"\x01" * 8 * MB))
    error.__cause__.__context__ = raised(ValueError("\x01" * 8 * MB))
    return error


LARGE: dict[str, Callable[[], Exception]] = {
    "bytes": lambda: ValueError(b"\x01" * 8 * MB),
    "bytearray": lambda: ValueError(bytearray(8 * MB)),
    "str": lambda: ValueError("\x01" * 8 * MB),
    "list": lambda: ValueError([1] * MB),
    "tuple": lambda: ValueError((None,) * MB),
    "set": lambda: ValueError(set(range(MB))),
    "frozenset": lambda: ValueError(frozenset(range(MB))),
    "dict": lambda: ValueError(dict.fromkeys(range(MB))),
    "inside": lambda: ValueError("body", [{"body": (b"\x01" * 8 * MB,)}]),
    "two": lambda: ValueError(b"\x01" * 8 * MB, "\x01" * 8 * MB),
    "int": lambda: ValueError(1 << (8 * MB)),
    "key": lambda: KeyError(b"\x01" * 8 * MB),
    "exception": lambda: ValueError(KeyError(b"\x01" * 8 * MB)),
    "undecodable": undecodable,
    "notes": noted,
    "group": nested,
    "large group": lambda: ExceptionGroup("group", [ValueError(number) for number in range(MB // 8)]),
    "related": related,
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_exception_is_described_in_little_memory(name: str) -> None:
    error = raised(LARGE[name]())
    tracemalloc.start()
    try:
        text, trace = outcome.safe_repr(error), outcome.traceback_text(error)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * MB
    assert text.startswith(f"{type(error).__name__}(")
    assert len(text) <= description.MAX_TEXT
    assert trace is not None
    assert "in raised\n" in trace, "it shows where"
    assert type(error).__name__ in trace


@pytest.mark.parametrize("describe", [outcome.unserializable, outcome.undecodable])
def test_the_error_of_a_serializer_is_described_in_little_memory(describe: Callable[..., outcome.Verdict]) -> None:
    error = raised(ValueError(b"\x01" * 8 * MB))
    run: Any = SimpleNamespace(slot=1, tries=1, task=SimpleNamespace(result_ttl_ms=None))
    tracemalloc.start()
    try:
        described = describe(run, error)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * MB
    assert isinstance(described.value, str)
    assert ": b'\\x01\\x01" in described.value


def test_a_text_of_the_users_own_is_cut() -> None:
    trace = outcome.traceback_text(raised(OwnText("x" * MB)))
    assert trace is not None
    assert "in raised\n" in trace
    assert f"OwnText: {'x' * 4096}…\n" in trace
    assert len(outcome.safe_repr(OwnText("x" * MB))) == description.MAX_TEXT


def test_a_large_text_is_cut_behind_the_place_where_it_was_raised() -> None:
    trace = outcome.traceback_text(raised(ValueError(b"\x01" * MB)))
    assert trace is not None
    assert trace.startswith("Traceback (most recent call last):\n")
    assert "ValueError: b'\\x01\\x01" in trace
    assert trace.endswith("…\n")


def chain(length: int, link: str) -> BaseException:
    error: BaseException = ValueError(0)
    for number in range(1, length):
        outer = KeyError(number)
        setattr(outer, link, error)
        error = outer
    return error


@pytest.mark.parametrize(("link", "says"), [("__cause__", "direct cause"), ("__context__", "During handling")])
def test_of_a_long_chain_the_first_and_the_last_are_shown(link: str, says: str) -> None:
    text = outcome.traceback_text(chain(2000, link))
    assert text is not None
    lines = text.splitlines()
    shown = [line for line in lines if line.startswith(("KeyError: ", "ValueError: "))]
    assert shown[:4] == ["ValueError: 0", "KeyError: 1", "KeyError: 2", "KeyError: 3"]
    assert shown[4:] == [f"KeyError: {number}" for number in range(1988, 2000)]
    assert lines[lines.index("KeyError: 3") + 1] == "[… exceptions left out: 1984]"
    assert text.count(says) == 15
    endless = outcome.traceback_text(chain(20_000, link))
    assert endless is not None
    assert "[… exceptions left out: more than 9984]" in endless


def test_of_a_large_group_the_first_are_shown() -> None:
    group = ExceptionGroup("many", [ExceptionGroup("few", [ValueError(number)]) for number in range(1000)])
    text = outcome.traceback_text(raised(group))
    assert text is not None
    assert "ExceptionGroup: many (1000 sub-exceptions)" in text
    assert "ValueError: 14" in text
    assert "ValueError: 15" not in text
    assert "[… exceptions of the group left out: 985]" in text


def ordinary() -> BaseException:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("middle") from inner
    except ValueError:
        error = ExceptionGroup("group", [raised(OSError(2, "no file", "name")), raised(chain(5, "__cause__"))])  # type: ignore[type-var]
        error.add_note("a note")
        return raised(error)


@pytest.mark.parametrize(
    "error",
    [ordinary(), raised(chain(20, "__context__")), raised(SyntaxError("bad", ("file", 1, 2, "x y"))), raised(OwnText("own"))],
    ids=["group", "chain", "syntax", "own"],
)  # fmt: skip
def test_an_ordinary_traceback_is_formatted_by_python(error: BaseException) -> None:
    assert outcome.traceback_text(error) == "".join(traceback.format_exception(error))

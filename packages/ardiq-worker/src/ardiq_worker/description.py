"""Describes exceptions as text, in bounded time and memory: this happens on the event loop.

An exception may hold a request body of 50 MB, a chain of thousands of causes, or a group of
thousands of exceptions. `repr()` and `traceback` render all of it, before the text is cut. So this
module first estimates how much there is. In the ordinary case Python's own functions are used. Only
the beginning of a large exception is rendered, in the same form.

An exception is user code: see `ardiq_worker.outcome`. A `__repr__` or `__str__` written by a user
cannot be bounded.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from types import TracebackType

MAX_TEXT = 64 * 1024
"""The most characters of a description."""

MAX_ITEMS = 10_000
"""The most items to look at in the arguments of an exception."""

MAX_CHAIN = 32
"""Up to this many exceptions are all shown, including causes, contexts and members of groups."""

FIRST_SHOWN, LAST_SHOWN = 4, 12
"""How many exceptions are shown from the beginning and from the end of a longer chain."""

MEMBERS_SHOWN = 15
"""How many exceptions of a larger group are shown."""

NOTES_SHOWN = 8
"""How many notes of an exception are shown in a shortened traceback."""

MAX_DEPTH = 8
"""How many levels of nested groups are shown in a large group."""

TEXT_SHOWN = 4096
"""How many characters of an exception's text are shown in a shortened traceback."""

MAX_WALK = 10_000
"""The most links of a chain to follow."""

MAX_FRAMES = 2000
FRAMES_SHOWN = 200
"""How many frames of a longer traceback are shown, from its end."""

MAX_DIGITS = 4300
"""If an integer has more digits, only its size is shown."""

_ARGS: Any = vars(BaseException)["args"]
_CAUSE: Any = vars(BaseException)["__cause__"]
_CONTEXT: Any = vars(BaseException)["__context__"]
_SUPPRESS: Any = vars(BaseException)["__suppress_context__"]
_TRACEBACK: Any = vars(BaseException)["__traceback__"]
_DICT: Any = vars(BaseException)["__dict__"]
_MEMBERS: Any = vars(BaseExceptionGroup)["exceptions"]
_MRO: Any = vars(type)["__mro__"]
_NAMESPACE: Any = vars(type)["__dict__"]
_NAME: Any = vars(type)["__name__"]
_QUALNAME: Any = vars(type)["__qualname__"]
_MODULE: Any = vars(type)["__module__"]

_SIZED = (str, bytes, bytearray)
_LISTS = (list, tuple, set, frozenset)
_BOUNDED = (*_SIZED, *_LISTS, dict, int)
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}
_PLAIN = {
    "__repr__": [vars(kind)["__repr__"] for kind in (BaseException, BaseExceptionGroup) if "__repr__" in vars(kind)],
    "__str__": [vars(BaseException)["__str__"], vars(KeyError)["__str__"]],
}


def represent(error: BaseException) -> str:
    """Return `repr(error)`, or more than `MAX_TEXT` characters of its beginning.

    May raise what `repr()` raises.
    """
    if not _is_plain(error, "__repr__") or _weigh(_ARGS.__get__(error)) <= MAX_TEXT:
        return repr(error)
    return _first(_pieces(error, ()))


def message(error: BaseException) -> str:
    """Return `str(error)`, or more than `MAX_TEXT` characters of its beginning.

    May raise what `str()` raises.
    """
    args = _ARGS.__get__(error)
    if not _is_plain(error, "__str__") or _weigh(args) <= MAX_TEXT:
        return str(error)
    if len(args) == 1 and not issubclass(type(error), KeyError):
        return _text_of(args[0])
    return _first(_pieces(args[0] if len(args) == 1 else args, ()))


def format_traceback(error: BaseException, trace: TracebackType | None) -> str:
    """Return the traceback of `error` as Python shows it, from `trace` on; shortened if it is
    large. May raise anything.
    """
    related = _related(error)
    if len(related) <= MAX_CHAIN and not any(_is_large(one) for one in related) and _length(trace) <= MAX_FRAMES:
        return "".join(traceback.format_exception(type(error), error, trace))
    short = _shortened(error, _Budget())
    short.__traceback__ = trace
    return "".join(traceback.format_exception(type(short), short, trace, limit=-FRAMES_SHOWN))


def _text_of(value: object) -> str:
    if type(value) is str:
        return value[: MAX_TEXT + 1]
    if issubclass(type(value), BaseException):
        return message(cast("BaseException", value))
    return _first(_pieces(value, ())) if type(value) in _BOUNDED else str(value)


# Sizes


def _weigh(value: object) -> int:
    """Estimate the length of `repr(value)`; anything above `MAX_TEXT` if it is longer or has too
    many items.
    """
    weight, seen = 0, 0
    left: list[Iterator[object]] = [iter((value,))]
    while left:
        one = next(left[-1], left)
        if one is left:
            left.pop()
            continue
        seen += 1
        kind = type(one)
        if kind in _SIZED:
            weight += len(cast("str", one))
        elif kind is int:
            weight += cast("int", one).bit_length() // 3
        elif kind in _LISTS:
            left.append(iter(cast("list[object]", one)))
        elif kind is dict:
            left.append(item for pair in cast("dict[object, object]", one).items() for item in pair)
        elif issubclass(kind, BaseException) and _is_plain(cast("BaseException", one), "__repr__"):
            left.append(iter(_ARGS.__get__(one)))
        if weight > MAX_TEXT or seen > MAX_ITEMS:
            return MAX_TEXT + 1
    return weight


def _is_large(error: BaseException) -> bool:
    notes = _DICT.__get__(error).get("__notes__", ())
    if (
        _weigh(_ARGS.__get__(error)) > MAX_TEXT
        or _weigh(notes) > MAX_TEXT
        or _length(_TRACEBACK.__get__(error)) > MAX_FRAMES
    ):
        return True
    if _is_plain(error, "__str__"):
        return False
    try:
        return len(str(error)) > MAX_TEXT
    except BaseException:  # noqa: BLE001 - user code, and it may raise anything
        return False


def _length(trace: TracebackType | None) -> int:
    length = 0
    while trace is not None and length <= MAX_FRAMES:
        length, trace = length + 1, trace.tb_next
    return length


def _related(error: BaseException) -> list[BaseException]:
    """Return `error`, its causes, contexts and members; more than `MAX_CHAIN` if there are more."""
    found: dict[int, BaseException] = {}
    left = [error]
    while left and len(found) <= MAX_CHAIN:
        one = left.pop()
        if id(one) not in found:
            found[id(one)] = one
            left += [other for link in (_CAUSE, _CONTEXT) if (other := link.__get__(one)) is not None]
            if issubclass(type(one), BaseExceptionGroup):
                left += islice(_MEMBERS.__get__(one), MAX_CHAIN)
    return list(found.values())


# The beginning of repr()


def _first(pieces: Iterable[str]) -> str:
    """Join pieces until there are more than `MAX_TEXT` characters."""
    kept: list[str] = []
    length = 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        if length > MAX_TEXT:
            break
    return "".join(kept)


def _pieces(value: object, around: tuple[int, ...]) -> Iterator[str]:
    """Return `repr(value)` in pieces. `around` has the ids of the containers that it is in."""
    kind = type(value)
    if kind in _SIZED:
        yield _quoted(cast("str | bytes | bytearray", value))
    elif kind is int and cast("int", value).bit_length() // 3 > MAX_DIGITS:
        yield f"<int of {cast('int', value).bit_length()} bits>"
    elif kind in _LISTS:
        yield from _listed(cast("Collection[object]", value), around)
    elif kind is dict:
        yield from _mapped(cast("dict[object, object]", value), around)
    elif issubclass(kind, BaseException) and _is_plain(cast("BaseException", value), "__repr__"):
        args = _ARGS.__get__(value)
        yield str.__str__(_NAME.__get__(kind))
        if len(args) == 1:
            yield "("
            yield from _pieces(args[0], around)
            yield ")"
        else:
            yield from _pieces(args, around)
    else:
        yield repr(value)


def _listed(items: Collection[object], around: tuple[int, ...]) -> Iterator[str]:
    kind: type = type(items)
    if not items and kind in (set, frozenset):
        yield f"{kind.__name__}()"
        return
    begin, end = _BRACKETS[kind]
    if id(items) in around:
        yield f"{begin}...{end}"
        return
    yield begin
    for number, item in enumerate(items):
        if number:
            yield ", "
        yield from _pieces(item, (*around, id(items)))
    yield f",{end}" if kind is tuple and len(items) == 1 else end


def _mapped(items: dict[object, object], around: tuple[int, ...]) -> Iterator[str]:
    if id(items) in around:
        yield "{...}"
        return
    around = (*around, id(items))
    yield "{"
    for number, (key, value) in enumerate(items.items()):
        if number:
            yield ", "
        yield from _pieces(key, around)
        yield ": "
        yield from _pieces(value, around)
    yield "}"


def _quoted(value: str | bytes | bytearray) -> str:
    """Return `repr(value)`, or more than `MAX_TEXT` characters of its beginning."""
    if len(value) <= MAX_TEXT:
        return repr(value)
    if isinstance(value, str):
        before, text = "", repr(value[: MAX_TEXT + 1])
        both = "'" in value, '"' in value
    else:
        before, text = ("bytearray(b" if isinstance(value, bytearray) else "b"), repr(bytes(value[: MAX_TEXT + 1]))[1:]
        both = b"'" in value, b'"' in value
    quote = '"' if both == (True, False) else "'"  # as Python chooses it, which depends on the whole value
    body = text[1:-1]
    if text[0] == '"' and quote == "'":
        body = body.replace("'", "\\'")
    return f"{before}{quote}{body}"


# Stand-ins for large exceptions


class _Budget:
    """How many exceptions may still be shown."""

    def __init__(self) -> None:
        self.left = 2 * MAX_CHAIN


def _shortened(error: BaseException, budget: _Budget, depth: int = 0) -> BaseException:
    """Return a copy of `error` with bounded texts, chains and groups, for `traceback` to format."""
    chain = _chain(error)
    omitted = len(chain) - FIRST_SHOWN - LAST_SHOWN
    last, first = (chain[:LAST_SHOWN], chain[-FIRST_SHOWN:]) if len(chain) > MAX_CHAIN else (chain, [])
    older: BaseException | None = None
    for one, was_caused in reversed([*last, *first]):
        copy = _copy(one, budget, depth)
        if first and one is first[0][0]:
            more = "more than " if len(chain) >= MAX_WALK else ""
            copy.add_note(f"[… exceptions left out: {more}{omitted}]")
        if was_caused:
            copy.__cause__ = older
        else:
            copy.__context__ = older
        older = copy
    assert older is not None, "a chain has at least the exception itself"
    return older


def _chain(error: BaseException) -> list[tuple[BaseException, bool]]:
    """Return `error` and what it was raised from or during, as `traceback` shows them, and whether
    it has a cause.
    """
    found: dict[int, tuple[BaseException, bool]] = {}
    one: BaseException | None = error
    while one is not None and id(one) not in found and len(found) < MAX_WALK:
        cause = _CAUSE.__get__(one)
        found[id(one)] = one, cause is not None
        one = cause if cause is not None or _SUPPRESS.__get__(one) else _CONTEXT.__get__(one)
    return list(found.values())


def _copy(error: BaseException, budget: _Budget, depth: int) -> BaseException:
    """Return an exception of a class with the same name, text, notes, members and traceback, but no
    cause or context.
    """
    kind = type(error)
    text = _cut(message, error)
    budget.left -= 1
    members: list[Any] = []
    notes: list[str] = []
    if issubclass(kind, BaseExceptionGroup):
        count = len(_MEMBERS.__get__(error))
        for member in islice(_MEMBERS.__get__(error), MEMBERS_SHOWN):
            if budget.left > 0 and depth < MAX_DEPTH:
                members.append(_shortened(member, budget, depth + 1))
        if count > len(members):
            notes.append(f"[… exceptions of the group left out: {count - len(members)}]")
    namespace: dict[str, Any] = {"__module__": _MODULE.__get__(kind), "__qualname__": _QUALNAME.__get__(kind)}
    namespace["__str__"] = lambda _self: text  # pyright: ignore[reportUnknownLambdaType] - of any of these classes
    copy: BaseException
    if members:
        copy = type("Copy", (BaseExceptionGroup,), namespace)(text, members)
    else:
        copy = type("Copy", (Exception,), namespace)()
    copy.__traceback__ = _TRACEBACK.__get__(error)
    own: Any = _DICT.__get__(error).get("__notes__")
    if isinstance(own, list):
        notes = [_cut(str, note) for note in islice(cast("list[object]", own), NOTES_SHOWN)] + notes
    for note in notes:
        copy.add_note(note)
    return copy


def _cut(text_of: Callable[[Any], str], value: object) -> str:
    try:
        text = str.__str__(text_of(value))
    except BaseException:  # noqa: BLE001 - user code, and it may raise anything
        return "<exception str() failed>"
    return text if len(text) <= TEXT_SHOWN else text[:TEXT_SHOWN] + "…"


# How a class describes itself


def _is_plain(error: BaseException, method: str) -> bool:
    """Return whether the class of `error` uses the `method` of the built-in exceptions.

    That method renders `args`, which can be cut.
    """
    for kind in _MRO.__get__(type(error)):
        own = _NAMESPACE.__get__(kind).get(method)
        if own is not None:
            return any(own is one for one in _PLAIN[method])
    return False

"""What makes two enqueues of a `unique` task the same: the task's name and the arguments in
canonical form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from ardiq._encoding.codec import Codec
from ardiq.errors import SerializationError

DIGEST_BYTES = 16

MAX_NESTING = 128
"""How deeply the arguments may nest.

There is a limit because the canonical form is built recursively.
"""


def identity(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], codec: Codec, fn: Callable[..., Any] | None
) -> bytes:
    """Return the digest of a call. The order of keywords, dicts and sets does not matter.

    If `fn` is known, it makes no difference whether an argument is passed by position or by
    keyword. Defaults are not filled in: a default may change in the next release of the code, which
    would change the identity of waiting jobs.
    """
    from hashlib import blake2b

    if fn is not None:
        args, kwargs = _by_keyword(fn, args, kwargs)
    digest = blake2b(digest_size=DIGEST_BYTES)
    digest.update(_sized(name.encode()))
    digest.update(_canonical([list(args), kwargs], codec, MAX_NESTING))
    return digest.digest()


def _by_keyword(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    from inspect import Parameter, signature

    try:
        bound = signature(fn).bind(*args, **kwargs)
    except (TypeError, ValueError):  # no such call, or no signature: the arguments as they are
        return args, kwargs
    positional: list[Any] = []
    keyword: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is Parameter.POSITIONAL_ONLY:
            positional.append(value)
        elif kind is Parameter.VAR_POSITIONAL:
            positional.extend(value)
        elif kind is Parameter.VAR_KEYWORD:
            keyword.update(value)
        else:
            keyword[name] = value
    return tuple(positional), keyword


def _canonical(value: object, codec: Codec, budget: int) -> bytes:
    if budget == 0:
        raise SerializationError(
            f"the arguments of a unique job may nest {MAX_NESTING} levels at most; make them flatter"
        )
    if isinstance(value, dict):
        items = cast(dict[object, object], value).items()
        entries = (_canonical(key, codec, budget - 1) + _canonical(item, codec, budget - 1) for key, item in items)
        return b"d" + _joined(sorted(entries))
    if isinstance(value, list | tuple):
        parts = (_canonical(item, codec, budget - 1) for item in cast(Iterable[object], value))
        return (b"l" if isinstance(value, list) else b"t") + _joined(list(parts))
    if isinstance(value, set | frozenset):
        parts = (_canonical(item, codec, budget - 1) for item in cast(Iterable[object], value))
        return (b"s" if isinstance(value, set) else b"f") + _joined(sorted(parts))
    return b"v" + _sized(codec.encode_value(value))


def _joined(parts: list[bytes]) -> bytes:
    return len(parts).to_bytes(8, "big") + b"".join(parts)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data

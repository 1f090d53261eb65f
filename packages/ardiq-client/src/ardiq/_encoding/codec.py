"""Arguments and results as bytes, and back.

The default is msgpack with the extensions of `ardiq._encoding.extensions`, which can carry data but
never code. An app may have its own serializer and deserializer. They receive `(args, kwargs)` of a
call as one value, and results unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from ardiq._encoding import Packer, Unpacker, unpack
from ardiq._encoding.extensions import MARKED, Unreadable, decode_other, encode_other, restore
from ardiq.checks import kind_of
from ardiq.errors import SerializationError

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]

_ADVICE = (
    "pass plain data (None, bool, int, float, str, bytes, list, tuple, dict, set, datetime, date, time, timedelta, "
    "UUID, Decimal), or give the app a serializer and a deserializer"
)

SMALL = 4096
"""A message below this size cannot make the decoder reserve much memory, so it is decoded without a
check beforehand.
"""

MARK = MARKED[0]
"""Searching for one byte takes a tenth of the time of a search for two, and most messages do not
contain this one.
"""

DEEPEST = 1000
"""A result with more bytes than this could nest too deeply to be read; a smaller one cannot.
"""


_FLAT: frozenset[type] = frozenset({bytes, str, int, float, bool, type(None)})
"""Values of these types do not nest, however large they are, so they need no check.
"""

NIL = b"\xc0"

BUFFER = 1024
"""The initial size of the buffer for a message. The buffer grows as needed.

The library's default, 256 KB, takes longer to allocate than to fill.
"""


class Codec:
    """Encodes and decodes for one app. It has no state and serves any number of threads."""

    __slots__ = ("decode_call", "decode_value", "encode_call", "encode_value")

    encode_call: Callable[..., bytes]
    decode_call: Callable[[bytes], tuple[tuple[Any, ...], dict[str, Any]]]
    encode_value: Callable[[Any], bytes]
    decode_value: Callable[[bytes], Any]

    def __init__(self, serializer: Serializer | None = None, deserializer: Deserializer | None = None) -> None:
        if serializer is None or deserializer is None:
            if serializer is not deserializer:
                raise TypeError("serializer and deserializer go together: pass both or neither")
            self.encode_call = _encode_call
            self.decode_call = _decode_call
            self.encode_value = _encode_value
            self.decode_value = _decode
            return
        for label, given in (("serializer", serializer), ("deserializer", deserializer)):
            if not callable(given):
                raise TypeError(f"{label} must be callable, not {kind_of(given)}")
        custom = _Custom(serializer, deserializer)
        self.encode_call = custom.encode_call
        self.decode_call = custom.decode_call
        self.encode_value = custom.encode
        self.decode_value = custom.decode


def _encode_call(args: tuple[Any, ...], kwargs: dict[str, Any], fn: Callable[..., Any] | None = None) -> bytes:
    """Return the body of a call. If `fn` is known, errors name its parameters."""
    try:
        body = Packer(default=encode_other, strict_types=True, buf_size=BUFFER).pack([list(args), kwargs])
    except Exception as error:
        raise _refusal(args, kwargs, fn, error) from error
    if len(body) > DEEPEST and not (_FLAT.issuperset(map(type, args)) and _FLAT.issuperset(map(type, kwargs.values()))):
        _check_readable(body)
    return body


def _encode_value(value: Any) -> bytes:
    if value is None:  # what most tasks return
        return NIL
    try:
        data = Packer(default=encode_other, strict_types=True, buf_size=BUFFER).pack(value)
    except Exception as error:
        raise SerializationError(f"the value, of type {kind_of(value)}, {_reason(error)}; {_ADVICE}") from error
    if len(data) > DEEPEST and type(value) not in _FLAT:
        _check_readable(data)
    return data


def _refusal(
    args: tuple[Any, ...], kwargs: dict[str, Any], fn: Callable[..., Any] | None, error: Exception
) -> SerializationError:
    code = getattr(fn, "__code__", None)
    names: Sequence[str] = code.co_varnames[: code.co_argcount] if code is not None else ()
    for index, value in enumerate(args):
        if (cause := _failure(value)) is not None:
            label = f"argument {index}" + (f" ({names[index]!r})" if index < len(names) else "")
            return SerializationError(f"{label}, of type {kind_of(value)}, {_reason(cause)}; {_ADVICE}")
    for name, value in kwargs.items():
        if (cause := _failure(value)) is not None:
            return SerializationError(f"argument {name!r}, of type {kind_of(value)}, {_reason(cause)}; {_ADVICE}")
    return SerializationError(f"the arguments cannot be encoded together: {_reason(error)}; {_ADVICE}")


def _failure(value: object) -> Exception | None:
    try:
        Packer(default=encode_other, strict_types=True).pack(value)
    except Exception as error:  # noqa: BLE001 - every error is reported
        return error
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError) or "recursion limit" in str(error):
        return "nests too deeply, or contains itself"
    if isinstance(error, UnicodeEncodeError):
        return "has text that UTF-8 cannot encode (a lone surrogate)"
    return f"cannot be encoded: {error}"


def _check_readable(data: bytes) -> None:
    # The reader allows a few levels less than the writer. Do not send what cannot be read.
    try:
        _look_ahead(data)
    except Exception as error:
        raise SerializationError("the data nests too deeply to be read again; make it flatter") from error


def _look_ahead(data: bytes) -> None:
    """Walk over `data` without building any object.

    Raises unless `data` contains all the bytes that its lengths announce.
    """
    unpacker = Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    unpacker.skip()


def _read(data: bytes) -> Any:
    if len(data) > SMALL:
        _look_ahead(data)
    if MARK in data and data.find(MARKED) >= 0:
        return unpack(data, ext_hook=decode_other, list_hook=restore, strict_map_key=False)
    return unpack(data, ext_hook=decode_other, strict_map_key=False)


def _decode(data: bytes) -> Any:
    try:
        return _read(data)
    except Exception as error:
        raise SerializationError(_undecodable(data, error)) from error


def _decode_call(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        if len(data) > SMALL or MARK in data:
            args, kwargs = _read(data)
        else:  # what `_read` does, without the function call: the path of most jobs
            args, kwargs = unpack(data, ext_hook=decode_other, strict_map_key=False)
        if args.__class__ is list and kwargs.__class__ is dict:
            return tuple(args), kwargs
    except Exception as error:
        raise SerializationError(_undecodable(data, error)) from error
    raise SerializationError(_undecodable(data, "it is not a list of arguments and a map of keyword arguments"))


def _undecodable(data: bytes, why: Exception | str) -> str:
    # Other exceptions may quote the data.
    detail = why if isinstance(why, str | Unreadable) else type(why).__name__
    return f"{len(data)} bytes cannot be decoded ({detail}); the producer and the worker must use the same serializer"


class _Custom:
    __slots__ = ("_deserializer", "_serializer")

    def __init__(self, serializer: Callable[[Any], object], deserializer: Deserializer) -> None:
        self._serializer = serializer
        self._deserializer = deserializer

    def encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], fn: object = None) -> bytes:
        return self._encode((args, kwargs), "the arguments")

    def encode(self, value: Any) -> bytes:
        return self._encode(value, f"the value, of type {kind_of(value)},")

    def _encode(self, value: Any, label: str) -> bytes:
        try:
            data = self._serializer(value)
        except Exception as error:
            raise SerializationError(
                f"{label} cannot be encoded by the app's serializer: {type(error).__name__}"
            ) from error
        kind = type(data)  # `isinstance` would believe what the object claims to be
        if kind is bytes:
            return cast(bytes, data)
        if not issubclass(kind, bytes | bytearray | memoryview):
            raise SerializationError(f"the app's serializer must return bytes, not {kind_of(data)}")
        return bytes(memoryview(cast(bytes, data)))

    def decode(self, data: bytes) -> Any:
        try:
            return self._deserializer(data)
        except Exception as error:
            raise SerializationError(
                f"{len(data)} bytes cannot be decoded by the app's deserializer: {type(error).__name__}"
            ) from error

    def decode_call(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        call = self.decode(data)
        if isinstance(call, tuple | list) and len(cast(Sequence[object], call)) == 2:
            args, kwargs = cast(Sequence[object], call)
            if isinstance(args, tuple | list) and isinstance(kwargs, dict):
                return tuple(cast(Sequence[Any], args)), cast(dict[str, Any], kwargs)
        raise SerializationError("the app's deserializer must return a call as (args, kwargs)")

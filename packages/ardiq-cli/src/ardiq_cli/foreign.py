"""Arguments and results as an operator's command reads them: by the default codec, and what that cannot read by its size.

The application may have a serializer of its own, which these commands do not know.
"""

from typing import Any, NamedTuple

from ardiq.codec import Codec
from ardiq.errors import SerializationError

_codec = Codec()


class Unknown(NamedTuple):
    """Bytes that the default codec cannot read, as a call and as a value."""

    args: tuple[str]
    kwargs: dict[str, Any]


def encode(value: Any) -> bytes:
    """An application has both directions or neither."""
    return _codec.encode_value(value)


def decode(data: bytes) -> Any:
    """The value, or an `Unknown`."""
    try:
        return _codec.decode_value(data)
    except SerializationError:
        return Unknown((f"<{len(data)} bytes that only the application can read>",), {})

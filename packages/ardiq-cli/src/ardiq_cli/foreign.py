"""Arguments and results as commands such as `inspect` read them: by the default codec, or as a size
if it cannot.

The application may use its own serializer, which these commands do not know.
"""

from typing import Any, NamedTuple

from ardiq.errors import SerializationError
from ardiq.host import Codec

_codec = Codec()


class Unknown(NamedTuple):
    """Stands for bytes that the default codec cannot read, as a call or as a value."""

    args: tuple[str]
    kwargs: dict[str, Any]


def encode(value: Any) -> bytes:
    """Encode a value.

    The decoder below needs a counterpart: an application defines both or neither.
    """
    return _codec.encode_value(value)


def decode(data: bytes) -> Any:
    """Return the value, or an `Unknown`."""
    try:
        return _codec.decode_value(data)
    except SerializationError:
        return Unknown((f"<{len(data)} bytes that only the application can read>",), {})

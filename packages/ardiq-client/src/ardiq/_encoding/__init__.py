"""Arguments and results as bytes.

| module | what it does |
|---|---|
| `codec` | encodes and decodes calls and values |
| `extensions` | values beyond plain msgpack |
| `identity` | what makes two enqueues of a unique task the same |

Below are the few names of msgpack that these use, with the types that it does not declare.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgpack  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from typing import Protocol

    class _Packer(Protocol):
        def pack(self, value: object, /) -> bytes: ...

    class _Unpacker(Protocol):
        def feed(self, data: bytes, /) -> None: ...
        def skip(self) -> None: ...


_names = cast(Any, msgpack)

Packer: Callable[..., _Packer] = _names.Packer
unpack: Callable[..., Any] = _names.unpackb
Unpacker: Callable[..., _Unpacker] = _names.Unpacker
Extension: Callable[[int, bytes], object] = _names.ExtType

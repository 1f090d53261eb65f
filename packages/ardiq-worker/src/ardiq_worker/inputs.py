"""Makes the arguments of a job of the outputs of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ardiq.host import result_of
from ardiq.workflow import LIST, NONE, ONE, SPREAD

if TYPE_CHECKING:
    from ardiq.host import Codec
    from ardiq_core.shapes import ResultRecord

Inputs = tuple[str, "list[bytes | ResultRecord]"]
"""How the arguments are made, and the outputs."""


def with_inputs(
    codec: Codec, inputs: Inputs, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a job with inputs.

    Raises SerializationError if an output cannot be decoded.
    """
    mode, encoded = inputs
    if mode == NONE:
        return args, kwargs
    values: list[Any] = [
        codec.decode_value(one) if isinstance(one, bytes) else result_of(codec, one) for one in encoded
    ]
    if mode == LIST:
        return (values,), kwargs
    if mode == SPREAD and len(values) == 1 and values[0].__class__ is tuple:
        return values[0], kwargs
    if mode in (SPREAD, ONE):
        return tuple(values), kwargs
    return (tuple(values),), kwargs

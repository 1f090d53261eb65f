"""Awaits the value that a task returns, if it is awaitable."""

from __future__ import annotations

import contextvars
from inspect import isawaitable

PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple})
"""Common return types. A look-up here is faster than checking whether a value is awaitable."""

_UNSET = object()


async def awaited(value: object, context: contextvars.Context | None = None) -> object:
    """Return `value`, or its result if it is awaitable: a decorator may return a coroutine without
    awaiting it.

    A coroutine created in a thread sees the variables that were set in the `context` there.
    """
    if context is not None and isawaitable(value):
        for variable, its in context.items():
            if variable.get(_UNSET) is not its:
                variable.set(its)
    while isawaitable(value):
        value = await value
    return value

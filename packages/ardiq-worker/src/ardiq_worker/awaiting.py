"""What a task returns, when that is itself to be awaited."""

from __future__ import annotations

import contextvars
from inspect import isawaitable

PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple})
"""What tasks mostly return: to find that a value is not awaitable takes longer than to find it here."""

_UNSET = object()


async def awaited(value: object, context: contextvars.Context | None = None) -> object:
    """What a task has returned, or what that comes to: a decorator may pass on a coroutine that it has not awaited.

    A coroutine that was made in a thread sees what was set in the `context` there.
    """
    if context is not None and isawaitable(value):
        for variable, its in context.items():
            if variable.get(_UNSET) is not its:
                variable.set(its)
    while isawaitable(value):
        value = await value
    return value

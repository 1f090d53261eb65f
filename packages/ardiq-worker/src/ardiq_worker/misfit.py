"""Detects calls that do not match the task's function: every retry would fail the same way."""

from __future__ import annotations

import re
from types import FunctionType, MethodType, TracebackType
from typing import TYPE_CHECKING, Any

from ardiq.host import implementations, misfit_of, without_cache, written_function
from ardiq_worker.outcome import skip_own_frames

if TYPE_CHECKING:
    from ardiq.task import Task

_ABOUT_ARGUMENTS = (
    r"\b(takes|expected|requires|missing)\b.*\bargument|\bkeyword argument\b|\bmultiple values for argument\b"
)
"""The messages with which Python and compiled functions reject a call, as opposed to a value of the
wrong type.
"""


def is_misfit(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException) -> bool:
    """Whether `error` means that the call does not match the function, unlike a TypeError raised in
    its body.
    """
    if type(error) is not TypeError:
        return False
    try:
        trace = skip_own_frames(error.__traceback__)
        called: object = without_cache(task.fn)
        if trace is None or _is_dispatch(called, trace):
            # No code of the task has run, unless it is compiled.
            if misfit_of(task, args, kwargs) is not None or re.search(_ABOUT_ARGUMENTS, str(error)) is not None:
                return True
            # A cache rejects arguments that have no hash.
            return called is not task.fn and isinstance(called, FunctionType | MethodType)
        return _never_entered(written_function(task.fn), error, trace)
    except BaseException:  # noqa: BLE001 - signatures and attributes of callable objects are the user's code
        return False


def _is_dispatch(called: object, trace: TracebackType) -> bool:
    """Whether the error comes from the choice among the functions of a single dispatch, or from the
    call of that function.
    """
    return (
        trace.tb_next is None
        and isinstance(called, FunctionType)
        and trace.tb_frame.f_code is called.__code__
        and implementations(called) is not None
    )


def _never_entered(fn: object, error: TypeError, trace: TracebackType | None) -> bool:
    """Whether a decorator has called `fn` and Python has rejected that call."""
    if not isinstance(fn, FunctionType) or not error.args:
        return False
    text = error.args[0]
    if type(text) is not str or not text.startswith(f"{fn.__qualname__}() "):
        return False
    while trace is not None:
        if trace.tb_frame.f_code is fn.__code__:
            return False
        trace = trace.tb_next
    return True

"""Detects calls that do not match the task's function: every retry would fail the same way."""

from __future__ import annotations

from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Any

from ardiq.host import misfit_of, written_function
from ardiq_worker.outcome import skip_own_frames

if TYPE_CHECKING:
    from ardiq.task import Task


def is_misfit(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException) -> bool:
    """Whether `error` means that the call does not match the function, unlike a TypeError raised in
    its body.
    """
    if type(error) is not TypeError:
        return False
    try:
        trace = skip_own_frames(error.__traceback__)
        if trace is None:
            return misfit_of(task, args, kwargs) is not None
        return _never_entered(written_function(task.fn), error, trace)
    except BaseException:  # noqa: BLE001 - signatures and attributes of callable objects are the user's code
        return False


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

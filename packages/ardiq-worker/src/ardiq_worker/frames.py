"""Frees the memory of a failed run: the variables of its frames.

An exception refers to its traceback, the traceback to its frames, and each frame to all its
variables. If one of these refers back to the exception (`failure = error`, a future, a group of
exceptions), they all stay in memory until Python's cycle collector runs, which may be many large
jobs later. So the worker clears the frames when the outcome of the run is known.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from opcode import opmap
from typing import TYPE_CHECKING, Any, cast

from ardiq_worker.outcome import is_a, trace_of

if TYPE_CHECKING:
    from types import FrameType, TracebackType

MOST_EXCEPTIONS = 64
MOST_FRAMES = 1024
"""Limits on the walk: chains of exceptions grow, and so does the traceback of an exception raised
repeatedly.
"""

_RELATED: tuple[Any, ...] = (vars(BaseException)["__cause__"], vars(BaseException)["__context__"])
_MEMBERS: Any = vars(BaseExceptionGroup)["exceptions"]

_PAUSES = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_PAUSE = opmap["YIELD_VALUE"]
_REFUSES = sys.version_info >= (3, 13)


def clear_frames(error: BaseException) -> None:
    """Clear the frames in the tracebacks of `error` and its related exceptions.

    Never raises. The cycle collector handles any frames that remain.
    """
    with suppress(BaseException):
        seen: set[int] = set()
        left = [error]
        while left and len(seen) < MOST_EXCEPTIONS:
            one = left.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            _clear_all(trace_of(one))
            left += [other for related in _RELATED if (other := related.__get__(one)) is not None]
            if is_a(one, BaseExceptionGroup):
                left += cast("tuple[BaseException, ...]", _MEMBERS.__get__(one))


def _clear_all(trace: TracebackType | None) -> None:
    for _ in range(MOST_FRAMES):
        if trace is None:
            break
        if not _may_go_on(trace.tb_frame):
            with suppress(RuntimeError):  # the frame is running: other code holds the exception too
                trace.tb_frame.clear()
        trace = trace.tb_next


def _may_go_on(frame: FrameType) -> bool:
    """Whether this may be the frame of a paused generator or coroutine, which caught the exception:
    clearing ends it.

    Newer versions of Python refuse to clear it. In older ones, a paused frame points at the
    instruction that pauses it.
    """
    return bool(
        not _REFUSES and frame.f_code.co_flags & _PAUSES and frame.f_code.co_code[max(frame.f_lasti, 0)] == _PAUSE
    )

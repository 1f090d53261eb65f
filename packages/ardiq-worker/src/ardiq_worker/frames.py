"""Lets go of what a failed run held: the variables of its frames.

An exception refers to its traceback, that to the frames that it came through, and those to every variable of theirs. As
soon as one of these refers back to the exception (`failure = error`, a future, a group of exceptions), all of it stays in
memory until Python's cycle collector happens to look, which may be many large jobs later. So the frames are emptied when
the outcome of the run is known.
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
"""Bounds on the walk: chains of exceptions, and tracebacks of an exception that is raised again and again, grow."""

_RELATED: tuple[Any, ...] = (vars(BaseException)["__cause__"], vars(BaseException)["__context__"])
_MEMBERS: Any = vars(BaseExceptionGroup)["exceptions"]

_PAUSES = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_PAUSE = opmap["YIELD_VALUE"]
_REFUSES = sys.version_info >= (3, 13)


def clear_frames(error: BaseException) -> None:
    """Empty the frames that `error`, and the exceptions behind it, came through.

    Never raises: what is not emptied is left to the cycle collector.
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
            with suppress(RuntimeError):  # it runs: the exception is known elsewhere too
                trace.tb_frame.clear()
        trace = trace.tb_next


def _may_go_on(frame: FrameType) -> bool:
    """Whether this may be the frame of a paused generator or coroutine, which caught the exception: clearing ends it.

    Newer versions of Python refuse to. In older ones a paused frame stands at the instruction that pauses it.
    """
    return bool(
        not _REFUSES and frame.f_code.co_flags & _PAUSES and frame.f_code.co_code[max(frame.f_lasti, 0)] == _PAUSE
    )

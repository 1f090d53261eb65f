"""Ends the process at a given time with a given status, even if Python code can no longer run.

Foreign code may hold the GIL forever, and no Python thread runs once the interpreter is being
finalized. So this asks the C library: a POSIX timer calls `_exit(status)` in a thread of its own.
`faulthandler` could end the process as well, but only with status 1. macOS has no such timers.
"""

import ctypes
import os
import sys
import time

_SIGEV_THREAD = 2
_SIZE = 64
"""Bytes of a `struct sigevent`, of which the padding is a part."""


class _Event(ctypes.Structure):
    """`struct sigevent` of Linux: what happens when the time is over."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_char * _SIZE),
    )


class _Interval(ctypes.Structure):
    """`struct itimerspec` of Linux on 64 bits: how often, and when first."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


class ExitTimer:
    """Ends the process with `status` when it has been set and the time is over.

    Raises:
        OSError: If this system has no such timers, or has no more of them.
    """

    def __init__(self, status: int) -> None:
        if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise OSError("the timers of this system are not known")
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            create, self._settime = self._libc.timer_create, self._libc.timer_settime
        except AttributeError as error:  # a C library before glibc 2.34 has them elsewhere
            raise OSError("the C library has no timers") from error
        # The timer calls `function(value)`, and `_exit` takes an integer.
        function = ctypes.cast(self._libc._exit, ctypes.c_void_p).value
        event = _Event(value=status, notify=_SIGEV_THREAD, function=function)
        self._timer = ctypes.c_void_p()
        _check(create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)))

    def set(self, seconds: float) -> None:
        """End the process in `seconds`, instead of when this was set for before."""
        whole, rest = divmod(round(seconds * 1e9), 1_000_000_000)
        interval = _Interval(first_s=whole, first_ns=rest)
        _check(self._settime(self._timer, 0, ctypes.byref(interval), None))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

"""The standard streams of a process: closed ones are replaced, and broken ones decide nothing."""

import atexit
import os
import sys
from contextlib import suppress

_NAMES = ("stdin", "stdout", "stderr")
"""The names in `sys` of the streams for descriptors 0, 1 and 2."""


def prepare() -> None:
    """Call this first in a process of the command line.

    A closed standard stream is replaced by the null device: otherwise the next file or socket gets
    its descriptor. At exit, a stream that cannot be flushed does not change the exit status, which
    would be 120.
    """
    for descriptor, name in enumerate(_NAMES):
        try:
            os.fstat(descriptor)
        except OSError:
            discard(descriptor)
        if getattr(sys, name) is None:
            mode = "w" if descriptor else "r"
            stream = open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - it lives as long as the process
            setattr(sys, name, stream)
    atexit.register(release)


def release() -> None:
    """Flush standard output and standard error. Output that cannot be written is dropped."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # full, without a reader, closed, or not a stream
            discard(descriptor)


def discard(descriptor: int) -> None:
    """From now on, the null device is behind `descriptor`, here and in child processes."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR)
        if null == descriptor:
            os.set_inheritable(null, True)
        else:
            os.dup2(null, descriptor)
            os.close(null)

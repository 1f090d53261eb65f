"""Ends the process that a task has forked when the task ends there.

`os.fork()` in a task copies the worker. The copy must not run other jobs or report an outcome: both
belong to the parent. So the end of the task is the end of the child process.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

is_child = False
"""Whether this process was forked from one with a running worker, and has not started a worker of
its own.
"""


def own() -> None:
    """Note that a worker starts in this process."""
    global is_child
    is_child = False


def end(error: BaseException | None) -> NoReturn:
    """End the process as if its main program had ended with `error`."""
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        with suppress(BaseException):
            sys.excepthook(type(error), error, error.__traceback__)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(status & 0xFF)


def _after_fork() -> None:
    global is_child
    is_child = True


os.register_at_fork(after_in_child=_after_fork)

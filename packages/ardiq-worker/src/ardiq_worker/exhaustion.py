"""What is the worker's own trouble: its process has run out of threads, memory or file descriptors.

Such an error says nothing about the job that happens to meet it. It is never booked as that job's failure: the job goes
back to the queue and spends no try, and the worker stops in order, so that a fresh process can take its place. What a
task's own function raises is the task's, whatever it is: a job that asks for too much must not end one worker after
the other.
"""

from __future__ import annotations

import errno
from typing import Any

from ardiq_worker.outcome import is_a

ABANDONED_PER_THREAD = 4
"""So many threads may run on after the time of their tasks, for each of `sync_concurrency`."""

ABANDONED_AT_LEAST = 16
"""The smallest limit on such threads, for workers with few threads."""

_NO_THREAD = "can't start new thread"
_NUMBERS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_DEPTH = 8
_CAUSE: Any = vars(BaseException)["__cause__"]
_ARGS: Any = vars(BaseException)["args"]
_ERRNO: Any = vars(OSError)["errno"]


class NoThreadError(Exception):
    """A call could not begin, since no thread could be started for it and none is there."""


def most_abandoned(size: int) -> int:
    """How many threads of a pool of `size` may run on although their calls were given up."""
    return max(ABANDONED_PER_THREAD * size, ABANDONED_AT_LEAST)


def is_exhaustion(error: BaseException | None) -> bool:
    """Whether the process has run out of something, by `error` or what it was raised from. For errors of our own code."""
    for _ in range(_DEPTH):
        if error is None:
            break
        if is_a(error, MemoryError) or is_a(error, NoThreadError):
            return True
        if is_a(error, OSError) and _ERRNO.__get__(error) in _NUMBERS:
            return True
        if is_a(error, RuntimeError) and _ARGS.__get__(error) == (_NO_THREAD,):
            return True
        error = _CAUSE.__get__(error)
    return False

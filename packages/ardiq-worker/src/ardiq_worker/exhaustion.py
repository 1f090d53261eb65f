"""Detects that the worker's process has run out of threads, memory or file descriptors.

Such an error says nothing about the job that happens to hit it, so it never counts as that job's
failure. The job returns to the queue, which does not count as an attempt, and the worker stops
gracefully, so that a new process can take its place. An exception that a task's own function raises
always fails the task: a job that asks for too much must not end one worker after another.
"""

from __future__ import annotations

import errno
from typing import Any

from ardiq_worker.outcome import is_a

ABANDONED_PER_THREAD = 4
"""How many threads may keep running after their runs were abandoned, for each of
`sync_concurrency`.
"""

ABANDONED_AT_LEAST = 16
"""The smallest limit on such threads."""

_NO_THREAD = "can't start new thread"
_NUMBERS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_DEPTH = 8
_CAUSE: Any = vars(BaseException)["__cause__"]
_ARGS: Any = vars(BaseException)["args"]
_ERRNO: Any = vars(OSError)["errno"]


class NoThreadError(Exception):
    """A call could not start: the pool has no thread and cannot create one."""


def most_abandoned(size: int) -> int:
    """Return how many threads of a pool of `size` may keep running after their calls were
    abandoned.
    """
    return max(ABANDONED_PER_THREAD * size, ABANDONED_AT_LEAST)


def is_exhaustion(error: BaseException | None) -> bool:
    """Whether `error` or a cause of it shows that the process ran out of a resource.

    Only for errors of our own code.
    """
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

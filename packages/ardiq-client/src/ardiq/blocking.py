"""Checks for blocking calls on the thread of a running event loop, which they would block."""

from __future__ import annotations

import sys
import warnings


def check_thread(call: str, *, waits: bool = False) -> None:
    """Warn when the thread has a running event loop, or raise RuntimeError if the call `waits` for a job.

    A worker on that loop could not run the job, and the wait would last until its timeout.
    """
    asyncio = sys.modules.get("asyncio.events")
    if asyncio is None or asyncio._get_running_loop() is None:  # the public function raises instead of returning None
        return
    if waits:
        raise RuntimeError(
            f"{call}_sync() with a timeout would stop this thread's event loop, and a worker on it, until there is a "
            f"result; await {call}(), or call it in another thread, as with asyncio.to_thread"
        )
    warnings.warn(
        f"{call}_sync() blocks this thread's event loop for as long as Redis takes to answer; await {call}()",
        RuntimeWarning,
        stacklevel=_level_of_caller(),
    )


def _level_of_caller() -> int:
    """Return the stack level of the first frame outside this package."""
    from inspect import currentframe

    level, frame = 0, currentframe()
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    return level

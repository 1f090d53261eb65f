"""The end of a worker process, which comes soon after the worker's, whatever of the application's goes on.

When the worker has signed off, nothing that still runs counts: its jobs are done or handed back. But the interpreter waits
for threads, executors and exit handlers of the application, for as long as they take, and hears no signal meanwhile. So
the end gets `END_S`. Then what is buffered is written, and the process ends with the status that it would have had.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ardiq_cli.exits import complain

log = logging.getLogger("ardiq.worker")

END_S = 1.2
"""For the application's own: its threads, executors, exit handlers."""

LAST_STEPS_S = 0.3
"""After that, for the log and what is buffered: they may be what everything waits for."""

BACKSTOP_S = 0.3
"""So much later it is ended from C, in case that no Python code can run any more."""

MOST_NAMED = 5
"""Threads that are named in the log; an executor may have hundreds."""


class Ending:
    """Ends the process with `status` unless it has ended by itself in time.

    `message` is what would have been said on standard error, and `last_step` is called before; both only then.
    """

    def __init__(self, status: int, *, message: str = "", last_step: Callable[[], object] | None = None) -> None:
        self._status = status
        self._message = message
        self._last_step = last_step
        self._deadline = time.monotonic() + END_S
        self._done = threading.Event()
        # Both are started now: an interpreter that is on its way out starts no threads.
        for target in (self._take_last_steps, self._end):
            with suppress(RuntimeError):  # there is no thread to be had; the backstop is no thread of Python's
                threading.Thread(target=target, name="ardiq-ending", daemon=True).start()
        _set_backstop(END_S)

    def extend(self, seconds: float) -> None:
        """Give the command line's own work so much time from now on."""
        self._deadline = time.monotonic() + seconds
        _set_backstop(seconds)

    def _take_last_steps(self) -> None:
        self._await_deadline()
        try:
            log.warning("the process is ended with status %d although %s", self._status, _what_goes_on())
            if self._message:
                complain(self._message)
            if self._last_step is not None:
                self._last_step()
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
        finally:
            self._done.set()

    def _end(self) -> None:
        self._await_deadline()
        self._done.wait(LAST_STEPS_S)
        os._exit(self._status)

    def _await_deadline(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            time.sleep(left)


_ending: Ending | None = None


def begin(status: int, *, message: str = "", last_step: Callable[[], object] | None = None) -> None:
    """From now on the process has `END_S` to end by itself. Only the first call counts."""
    global _ending
    if _ending is None:
        _ending = Ending(status, message=message, last_step=last_step)


def extend(seconds: float = END_S) -> None:
    """Give what the command line does itself so much time from now on, if the end has begun."""
    if _ending is not None:
        _ending.extend(seconds)


def _set_backstop(seconds: float) -> None:
    seconds += LAST_STEPS_S + BACKSTOP_S
    try:
        faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    except (RuntimeError, ValueError, OSError):  # no thread, or no standard error
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds)


def _what_goes_on() -> str:
    main = threading.main_thread()
    threads = [one.name for one in threading.enumerate() if one is not main and not one.daemon]
    frame = sys._current_frames().get(main.ident or 0)  # pyright: ignore[reportPrivateUsage] - there is no other way
    place = f"the main thread is at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
    named = ", ".join(threads[:MOST_NAMED]) + (f" and {len(threads) - MOST_NAMED} more" * (len(threads) > MOST_NAMED))
    return " and ".join(filter(None, [f"threads of the application run ({named})" if threads else "", place]))

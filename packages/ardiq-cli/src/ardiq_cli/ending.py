"""Ends a worker process soon after its worker, even if application code is still running.

After the worker has signed off, its jobs are done or returned to the queue, so running code no
longer matters. But the interpreter waits for threads, executors and exit handlers of the
application, however long they take, and handles no signals meanwhile. So shutdown is limited to
`END_S`. Then this module flushes the output and exits with the same status.
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
from typing import TYPE_CHECKING

from ardiq_cli.exits import complain

if TYPE_CHECKING:
    from ardiq_cli.exit_timer import ExitTimer

log = logging.getLogger("ardiq.worker")

END_S = 1.2
"""Time for the application's threads, executors and exit handlers."""

LAST_STEPS_S = 0.3
"""Extra time to write the log and flush the output, which may block too."""

BACKSTOP_S = 0.3
"""After this much more time, C code ends the process, in case Python code can no longer run."""

STACKS_S = 0.1
"""Extra time for C code to write the stacks, before it ends the process."""

MOST_NAMED = 5
"""The most threads to name in the log; an executor may have hundreds."""

_TASK_THREAD = "ardiq-task-"
"""How `ardiq_worker.threads` names the threads of `def` tasks. The idle ones have ended."""


class Ending:
    """Ends the process with `status` unless it exits in time.

    Only if it does not, `message` is written to standard error and `last_step` is called.
    """

    def __init__(self, status: int, *, message: str = "", last_step: Callable[[], object] | None = None) -> None:
        self._status = status
        self._message = message
        self._last_step = last_step or (lambda: None)
        self._deadline = time.monotonic() + END_S
        self._done = threading.Event()
        # Start both now: the interpreter cannot start threads during shutdown.
        for target in (self._take_last_steps, self._end):
            with suppress(RuntimeError):  # the system refuses a thread; the backstop is not a Python thread
                threading.Thread(target=target, name="ardiq-ending", daemon=True).start()
        self._backstop = _Backstop(status)
        self._backstop.set(END_S)

    def extend(self, seconds: float) -> None:
        """Move the deadline to `seconds` from now, for the command line's own work."""
        self._deadline = time.monotonic() + seconds
        self._backstop.set(seconds)

    def leave(self) -> None:
        """End the process now, without finalizing the interpreter."""
        for step in (logging.shutdown, sys.stdout.flush, sys.stderr.flush):
            with suppress(BaseException):  # a log handler of the application, or a closed stream, may raise anything
                step()
        os._exit(self._status)

    def _take_last_steps(self) -> None:
        self._await_deadline()
        steps: list[Callable[[], object]] = [
            self._last_step,
            self._complain,
            lambda: log.warning(
                "ending the process with status %d without waiting any longer: %s", self._status, _what_goes_on()
            ),
            logging.shutdown,
            sys.stdout.flush,
            sys.stderr.flush,
        ]
        for step in steps:
            with suppress(BaseException):  # a log handler of the application, or a closed stream, may raise anything
                step()
        self._done.set()

    def _complain(self) -> None:
        if self._message:
            complain(self._message)

    def _end(self) -> None:
        self._await_deadline()
        self._done.wait(LAST_STEPS_S)
        os._exit(self._status)

    def _await_deadline(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            time.sleep(left)


_ending: Ending | None = None


def begin(status: int, *, message: str = "", last_step: Callable[[], object] | None = None) -> None:
    """Give the process `END_S` to exit. Only the first call has an effect."""
    global _ending
    if _ending is None:
        _ending = Ending(status, message=message, last_step=last_step)


def extend(seconds: float = END_S) -> None:
    """Move the deadline to `seconds` from now, if the process is already ending."""
    if _ending is not None:
        _ending.extend(seconds)


def leave_abandoned_threads() -> None:
    """End the process now if threads of `def` tasks still run. Register this as the first exit
    handler, so that it is called last.

    The interpreter aborts if it is finalized while such a thread holds the lock of standard input.
    """
    if _ending is not None and any(thread.name.startswith(_TASK_THREAD) for thread in threading.enumerate()):
        _ending.leave()


class _Backstop:
    """Ends the process from C, and before that writes the stacks of all threads."""

    def __init__(self, status: int) -> None:
        self._timer: ExitTimer | None = None
        with suppress(
            Exception
        ):  # no ctypes, no such timers, or no more of them: then the status is that of `faulthandler`
            # Imported only now: until it ends, no worker has a use for it.
            from ardiq_cli import exit_timer

            self._timer = exit_timer.ExitTimer(status)

    def set(self, seconds: float) -> None:
        seconds += LAST_STEPS_S + BACKSTOP_S
        if self._timer is not None:
            with suppress(OSError):
                self._timer.set(seconds + STACKS_S)
        try:
            faulthandler.dump_traceback_later(seconds, exit=self._timer is None, file=2)
        except (RuntimeError, ValueError, OSError):  # no thread, or no standard error
            if self._timer is None:
                with suppress(ValueError):  # not the main thread
                    signal.signal(signal.SIGALRM, signal.SIG_DFL)
                    signal.setitimer(signal.ITIMER_REAL, seconds)


def _what_goes_on() -> str:
    main = threading.main_thread()
    threads = [one.name for one in threading.enumerate() if one is not main and not one.daemon]
    frame = sys._current_frames().get(main.ident or 0)  # pyright: ignore[reportPrivateUsage] - there is no other way
    place = f"the main thread is at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
    named = ", ".join(threads[:MOST_NAMED]) + (f" and {len(threads) - MOST_NAMED} more" * (len(threads) > MOST_NAMED))
    running = f"threads of the application are still running ({named})" if threads else ""
    return " and ".join(filter(None, [running, place]))

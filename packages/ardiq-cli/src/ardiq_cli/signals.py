"""Signal handling in the processes that the command line starts.

SIGTERM, SIGINT and SIGHUP stop a worker gracefully. SIGQUIT shows what every thread and coroutine
is doing, and the process keeps running. SIGUSR1 and SIGUSR2 are left to the application, which may
install handlers when it is imported. Without a handler they are only logged. Their default action
would end the worker and cost every running job a try.
"""

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, cast

from ardiq.printable import printable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

PASSED_ON = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that a supervisor passes on to its children, and that never end them."""

NEXT_SIGNALS = (
    "stopping gracefully; press Ctrl-C again, or send SIGTERM, to return running tasks to the queue at once; "
    "a third time ends the process"
)
"""What the first stop signal says about the next ones."""

MOST_TASKS = 200
"""The most tasks to show. A worker may have thousands, but this many show what it is doing."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop this process gracefully.

    `nohup` ignores SIGHUP, so it is then excluded.
    """
    return tuple(
        number
        for number in STOP_SIGNALS
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    )


def survive(on_quit: Callable[[], object] | None = None) -> None:
    """Make SIGQUIT show all stacks, and SIGUSR1 and SIGUSR2 harmless.

    Call it before the application is imported, so that the application's handlers replace these. On
    SIGQUIT, `on_quit` is called after the thread stacks are written; by default it shows the
    coroutines.
    """
    then = on_quit or show_coroutines

    def quit_asked(_number: int, _frame: FrameType | None) -> None:
        then()

    signal.signal(signal.SIGQUIT, quit_asked)
    with suppress(AttributeError, OSError, RuntimeError, ValueError):  # there is no standard error to write to
        # A C handler writes the stacks, even while the interpreter is busy. Then the handler above
        # runs.
        faulthandler.register(signal.SIGQUIT, all_threads=True, chain=True)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        # Use a handler: programs that a task starts would inherit an ignored signal.
        signal.signal(number, _log_unused)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)


@contextmanager
def held_back(numbers: Iterable[signal.Signals]) -> Generator[None, None, None]:
    """Start a child in this block, or become another program, and it gets these signals only once
    it handles them.

    `survive` lets the signals of `PASSED_ON` in, `ardiq_cli.worker.run_worker` the stop signals
    too.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def show_coroutines() -> None:
    """Write where each asyncio task of this thread's loop stands to standard error."""
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs here
        return
    lines = [f"{len(tasks)} asyncio tasks:"]
    for task in list(tasks)[:MOST_TASKS]:
        lines += ["", printable(task.get_name()), *_places(task.get_coro())]
    if len(tasks) > MOST_TASKS:
        lines += ["", f"and {len(tasks) - MOST_TASKS} more"]
    # Not through sys.stderr: the signal may have come while that was being written to.
    with suppress(OSError, AttributeError, ValueError):
        os.write(sys.stderr.fileno(), ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))


def _places(awaited: object) -> list[str]:
    """Where a coroutine stands, and what it waits for, the innermost last."""
    places: list[str] = []
    while isinstance(awaited, Coroutine):
        coroutine = cast(Any, awaited)
        frame: FrameType | None = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            code = frame.f_code
            places.append(f'  File "{printable(code.co_filename)}", line {frame.f_lineno} in {code.co_qualname}')
        awaited = getattr(coroutine, "cr_await", None)
    return places


def _log_unused(number: int, _frame: FrameType | None) -> None:
    with suppress(RuntimeError):  # no loop runs yet, so there are no tasks to show
        # By the loop: the signal may have come while the log was being written.
        asyncio.get_running_loop().call_soon_threadsafe(_say_unused, signal.Signals(number).name)


def _say_unused(name: str) -> None:
    # Imported here: a worker that serves has imported it, and the supervisor has no use for it.
    from ardiq_worker.logs import Log

    Log("ardiq.worker").warning("%s has no handler in this application and was ignored", name)


def _after_fork() -> None:
    """In a forked child these signals have their default action again, unless the application said
    otherwise.
    """
    for number in PASSED_ON:
        handler = signal.getsignal(number)
        if getattr(handler, "__module__", None) == __name__:
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_after_fork)

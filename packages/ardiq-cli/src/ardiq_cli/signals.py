"""Signal handling in the processes that the command line starts.

SIGTERM, SIGINT and SIGHUP stop a worker gracefully. SIGQUIT shows what every thread and coroutine
is doing, and the process keeps running. SIGUSR1 and SIGUSR2 are left to the application, which may
install handlers when it is imported. Without a handler they are only logged. Their default action
would end the worker and cost every running job a try.
"""

import asyncio
import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager, suppress
from types import CodeType, FrameType
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
"""The most threads and the most tasks to show. A worker may have thousands, but this many show what
it is doing.
"""

MOST_FRAMES = 100
"""The most frames of a thread to show, innermost first, and of a task, outermost first."""


_heard_elsewhere: Callable[[], bool] | None = None


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

    def quit_asked(_number: int, frame: FrameType | None) -> None:
        if _heard_elsewhere is None or not _heard_elsewhere():
            show_threads(frame)
        if on_quit is None:
            show_coroutines(frame)
        else:
            on_quit()

    signal.signal(signal.SIGQUIT, quit_asked)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        # Use a handler: programs that a task starts would inherit an ignored signal.
        signal.signal(number, _log_unused)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    # Registered before the application is imported, so it runs after all that the application has
    # registered.
    atexit.register(_ignore_at_last)


@contextmanager
def held_back(numbers: Iterable[signal.Signals]) -> Generator[None, None, None]:
    """Hold back these signals for a child that is started in this block, or for the program that
    replaces this process, until it handles them.

    `survive` unblocks the signals of `PASSED_ON`, and `ardiq_cli.worker.run_worker` also the stop
    signals.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shows_threads(heard: Callable[[], bool]) -> None:
    """Say that another thread of this process calls `show_threads` on SIGQUIT, if `heard` returns
    True in the handler of that signal.
    """
    global _heard_elsewhere
    _heard_elsewhere = heard


def is_ours(number: signal.Signals) -> bool:
    """Whether the handler of this signal is one of this module, and not of the application."""
    return getattr(signal.getsignal(number), "__module__", None) == __name__


def show_threads(interrupted: FrameType | None = None) -> None:
    """Write where each Python thread stands to standard error.

    In a signal handler, pass the frame that it interrupted, to show where this thread stands, too.

    `faulthandler` could show the threads without the GIL, even while C code holds it. But it
    follows frames and threads while they change, and that ends a busy worker with a segmentation
    fault.
    """
    here = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}  # its lock is reentrant
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - there is no other way
    others = [ident for ident in frames if ident != here]
    lines: list[str] = []
    for ident in others[:MOST_TASKS]:
        lines += [f"Thread {_thread(ident, names)} (most recent call first):", *_stack(frames[ident]), ""]
    if len(others) > MOST_TASKS:
        lines += [f"and {len(others) - MOST_TASKS} more", ""]
    if interrupted is not None:
        lines += [f"Current thread {_thread(here, names)} (most recent call first):", *_stack(interrupted), ""]
    _write(lines)


def _thread(ident: int, names: dict[int | None, str]) -> str:
    return f"{ident:#018x} [{printable(names.get(ident, 'not started by threading'))}]"


def _stack(frame: FrameType | None) -> list[str]:
    places: list[str] = []
    while frame is not None and len(places) < MOST_FRAMES:
        places.append(_place(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return places if frame is None else [*places, "  ..."]


def _place(code: CodeType, line: int | None) -> str:
    return f'  File "{printable(code.co_filename)}", line {line} in {code.co_qualname}'


def show_coroutines(interrupted: FrameType | None = None) -> None:
    """Write where each asyncio task of this thread's loop stands to standard error.

    In a signal handler, pass the frame that it interrupted, to show where the running task stands.
    """
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs here
        return
    running = asyncio.current_task()
    lines = [f"asyncio tasks ({len(tasks)}):"]
    for task in list(tasks)[:MOST_TASKS]:
        try:
            places = _running_places(task.get_coro(), interrupted) if task is running else []
            lines += ["", printable(task.get_name()), *(places or _places(task.get_coro()))]
        except Exception as error:  # noqa: BLE001 - a task, or what it awaits, may be the application's and raise anything
            lines += ["", f"a task that cannot be shown ({type(error).__name__})"]
    if len(tasks) > MOST_TASKS:
        lines += ["", f"and {len(tasks) - MOST_TASKS} more"]
    _write(lines)


def _write(lines: list[str]) -> None:
    left = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
    # Do not use sys.stderr: the signal may have arrived while it was being written to.
    with suppress(OSError, AttributeError, ValueError):
        while left:
            left = left[os.write(sys.stderr.fileno(), left) :]


def _places(awaited: object) -> list[str]:
    """Where a coroutine stands, and what it waits for, the innermost last.

    Objects of the application may be registered as coroutines: one may even say that it awaits
    itself.
    """
    places: list[str] = []
    for _ in range(MOST_FRAMES):
        if not isinstance(awaited, Coroutine):
            return places
        coroutine = cast(Any, awaited)
        frame: FrameType | None = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            places.append(_place(frame.f_code, frame.f_lineno))
        awaited = getattr(coroutine, "cr_await", None)
    return [*places, "  ..."]


def _running_places(coroutine: object, frame: FrameType | None) -> list[str]:
    """Where a running coroutine stands, the innermost last: it awaits nothing, so its frames are
    those of the thread. Empty if `frame` does not belong to it.
    """
    outermost: FrameType | None = getattr(coroutine, "cr_frame", None)
    places: list[str] = []
    while frame is not None and len(places) < MOST_FRAMES:
        places.append(_place(frame.f_code, frame.f_lineno))
        if frame is outermost:
            return places[::-1]
        frame = frame.f_back
    return []


def _log_unused(number: int, _frame: FrameType | None) -> None:
    with suppress(RuntimeError):  # no loop runs yet, so there are no tasks to show
        # Let the loop log it: the signal may have arrived while the log was being written.
        asyncio.get_running_loop().call_soon_threadsafe(_say_unused, signal.Signals(number).name)


def _say_unused(name: str) -> None:
    # Imported here: a worker that serves has imported it, and the supervisor has no use for it.
    from ardiq_worker.logs import Log

    Log("ardiq.worker").warning("%s has no handler in this application and was ignored", name)


def _ignore_at_last() -> None:
    """Ignore these signals for the rest of the process.

    An interpreter that ends resets the signals that have a handler. They would end the process by
    their default action, and its exit status would be lost.
    """
    _replace_handlers(signal.SIG_IGN)


def _after_fork() -> None:
    """In a forked child these signals have their default action again, unless the application said
    otherwise.
    """
    _replace_handlers(signal.SIG_DFL)


def _replace_handlers(action: signal.Handlers) -> None:
    for number in PASSED_ON:
        if is_ours(number):
            signal.signal(number, action)


os.register_at_fork(after_in_child=_after_fork)

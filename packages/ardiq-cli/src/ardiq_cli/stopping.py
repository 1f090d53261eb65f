"""The stop signals of a worker process: the first stops it gracefully, the second skips the grace
period, the third ends it.

A blocked event loop cannot handle signals, so this module does not rely on the loop. Python's
handlers run in the main thread, even between two calls of a task that blocks the loop. If foreign
code blocks that thread, another thread counts the signals: it reads them from the descriptor to
which the interpreter writes each one. It also wakes the loop, because the kernel may have
interrupted any thread. On SIGQUIT, that thread writes the stacks of the threads.

There is only one such descriptor, and an event loop takes it when the application adds or removes a
signal handler. It is taken back at once, and the bytes are passed on to the loop. Code that sets
the descriptor itself loses it at the next signal, whose handler takes it back.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from types import FrameType
from typing import Any

from ardiq_cli.signals import is_ours, show_threads, shows_threads

log = logging.getLogger("ardiq.worker")

MOST = 3
"""The number of signals that ends the process."""

LAST_WORDS_S = 0.5
"""How long the last log line may take; logging may block too."""


class StopSignals:
    """Calls `ask` on `loop` with the signal count for each of the signals `numbers`; the third one
    ends the process.

    Create it in the main thread. It stays active until the process ends.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, numbers: Iterable[signal.Signals], ask: Callable[[int], object]
    ) -> None:
        self._loop = loop
        self._ask = ask
        self._numbers = frozenset(numbers)
        self._handled = 0
        self._missed = 0
        """Signals that were handled but not heard."""
        self._others = -1
        """The descriptor of the loop, or -1."""
        self._readable, self._writable = socket.socketpair()
        self._writable.setblocking(False)
        for number in self._numbers:
            signal.signal(number, self._handle)
        with suppress(RuntimeError):  # the system refuses a thread: the main thread still counts signals
            threading.Thread(target=self._listen, name="ardiq-signals", daemon=True).start()
            self.take_descriptor()
            shows_threads(self.take_descriptor)
            for name in ("add_signal_handler", "remove_signal_handler"):
                with suppress(AttributeError):  # a loop that has no such method, or takes no attributes
                    setattr(loop, name, self._and_take(getattr(loop, name)))

    def take_descriptor(self) -> bool:
        """Let the interpreter write signals to this object's descriptor; return whether it did so
        before.

        For the main thread.
        """
        ours = self._writable.fileno()
        try:
            before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        except (OSError, ValueError):  # a task has closed it, or calls this in a thread
            return False
        if before == ours:
            return True
        self._others = before
        return False

    def _and_take(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def and_take(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            finally:
                self.take_descriptor()

        return and_take

    def _pass_on(self, heard: bytes) -> None:
        if self._others >= 0 and not self._loop.is_closed():
            with suppress(OSError):  # it is full, or closed
                os.write(self._others, heard)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._handled += 1
        self._missed += not self.take_descriptor()
        if self._handled >= MOST:
            _end_at_once(number)
        with suppress(RuntimeError):  # the loop is closed: the process ends anyway
            self._loop.call_soon_threadsafe(self._ask, self._handled)

    def _listen(self) -> None:
        heard = 0
        while True:
            numbers = self._readable.recv(64)
            self._pass_on(numbers)
            for number in numbers:
                heard += number in self._numbers
                if heard + self._missed >= MOST:
                    _end_at_once(number)
                if number == signal.SIGQUIT and is_ours(signal.SIGQUIT):
                    show_threads()
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_nothing)


def ignore(numbers: Iterable[signal.Signals]) -> None:
    """Ignore these signals from now on, unless they are counted.

    Uses a handler, since child programs inherit SIG_IGN.
    """
    for number in numbers:
        if not isinstance(getattr(signal.getsignal(number), "__self__", None), StopSignals):
            signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _nothing() -> None:
    """Waking the loop is enough: Python runs its handlers as soon as the main thread runs."""


def _end_at_once(number: int) -> None:
    """Exit with the status that a shell shows for a process killed by this signal."""
    with suppress(RuntimeError):
        speaker = threading.Thread(target=_last_words, args=(signal.Signals(number),), daemon=True)
        speaker.start()
        speaker.join(LAST_WORDS_S)
    os._exit(128 + number)


def _last_words(number: signal.Signals) -> None:
    steps: list[Callable[[], object]] = [
        lambda: log.error(
            "third %s: the process exits at once. Its running jobs start again when its lease has expired", number.name
        ),
        logging.shutdown,
        sys.stdout.flush,
        sys.stderr.flush,
    ]
    for step in steps:
        with suppress(BaseException):  # a log handler of the application, or a closed stream, may raise anything
            step()


def _after_fork() -> None:
    """Restore the default actions of the stop signals in a forked child, which is not the worker.

    The child inherits the parent's handlers, and the descriptor that wakes the parent's loop.
    """
    ours = False
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        handler = signal.getsignal(number)
        if str(getattr(handler, "__module__", "")).startswith("ardiq_cli."):
            ours = True
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    if ours:
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_after_fork)

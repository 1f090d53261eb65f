"""Wakes an event loop when a file descriptor becomes readable, on every kind of loop."""

from __future__ import annotations

import asyncio
import contextvars
import os
import selectors
import threading
import weakref
from collections.abc import Callable

WATCH_S = 1.0
"""How often a thread that watches for a loop checks that the loop still exists."""


class WakeUp:
    """Calls `callback` on `loop` whenever `fd` is readable, until `close`.

    It does not keep the loop alive.

    Most loops watch descriptors themselves. For a loop that cannot, a thread waits in its place.
    The thread looks again only after `callback` has run, so it does not flood a slow loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, callback: Callable[[], object]) -> None:
        self._loop = weakref.ref(loop)
        self._fd = fd
        self._watcher: _Watcher | None = None
        try:
            loop.add_reader(fd, callback)
        except NotImplementedError:
            self._watcher = _Watcher(loop, fd, callback)

    def close(self) -> None:
        """Stop watching; the descriptor may be closed afterwards. Calling it twice is harmless."""
        if self._watcher is not None:
            self._watcher.close()
        elif (loop := self._loop()) is not None and not loop.is_closed():
            loop.remove_reader(self._fd)


class _Watcher:
    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, callback: Callable[[], object]) -> None:
        self._loop = weakref.ref(loop)
        self._fd = fd
        self._callback = callback
        self._context = contextvars.copy_context()  # as `add_reader` does
        self._called = threading.Event()
        self._closed = False
        self._quit_read, self._quit_write = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="ardiq-wakeup", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        os.write(self._quit_write, b"q")
        self._called.set()
        self._thread.join()
        os.close(self._quit_read)
        os.close(self._quit_write)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._fd, selectors.EVENT_READ)
            selector.register(self._quit_read, selectors.EVENT_READ)
            while True:
                readable = selector.select(WATCH_S)
                self._called.clear()
                loop = self._loop()
                if self._closed or loop is None or loop.is_closed():
                    return
                if readable:
                    try:
                        loop.call_soon_threadsafe(self._call, context=self._context)
                    except RuntimeError:  # closed in between
                        return
                    while not self._called.wait(WATCH_S) and not loop.is_closed():
                        pass
                del loop

    def _call(self) -> None:
        try:
            if not self._closed:
                self._callback()
        finally:
            self._called.set()

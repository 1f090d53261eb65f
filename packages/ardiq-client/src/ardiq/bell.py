"""Wake an event loop when a file descriptor becomes readable, on every kind of loop."""

from __future__ import annotations

import asyncio
import contextvars
import os
import selectors
import threading
import weakref
from collections.abc import Callable

WATCH_S = 1.0
"""How often a thread that watches in place of a loop looks whether that loop is still there."""


class Bell:
    """Calls `ring` on `loop` whenever `fd` is readable, until `close`, or until the loop is gone: it is not kept alive.

    Most loops watch descriptors themselves. For one that cannot, a thread waits in its place; it looks again only
    after `ring` has run, so that a slow loop is not flooded.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, ring: Callable[[], object]) -> None:
        self._loop = weakref.ref(loop)
        self._fd = fd
        self._watcher: _Watcher | None = None
        try:
            loop.add_reader(fd, ring)
        except NotImplementedError:
            self._watcher = _Watcher(loop, fd, ring)

    def close(self) -> None:
        """Stop watching; the descriptor may be closed afterwards. Twice is harmless."""
        if self._watcher is not None:
            self._watcher.close()
        elif (loop := self._loop()) is not None and not loop.is_closed():
            loop.remove_reader(self._fd)


class _Watcher:
    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, ring: Callable[[], object]) -> None:
        self._loop = weakref.ref(loop)
        self._fd = fd
        self._ring = ring
        self._context = contextvars.copy_context()  # as `add_reader` does
        self._rung = threading.Event()
        self._closed = False
        self._quit_read, self._quit_write = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="ardiq-bell", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        os.write(self._quit_write, b"q")
        self._rung.set()
        self._thread.join()
        os.close(self._quit_read)
        os.close(self._quit_write)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._fd, selectors.EVENT_READ)
            selector.register(self._quit_read, selectors.EVENT_READ)
            while True:
                readable = selector.select(WATCH_S)
                self._rung.clear()
                loop = self._loop()
                if self._closed or loop is None or loop.is_closed():
                    return
                if readable:
                    try:
                        loop.call_soon_threadsafe(self._answer, context=self._context)
                    except RuntimeError:  # closed in between
                        return
                    while not self._rung.wait(WATCH_S) and not loop.is_closed():
                        pass
                del loop

    def _answer(self) -> None:
        try:
            if not self._closed:
                self._ring()
        finally:
            self._rung.set()

"""The threads for `def` tasks: a pool of our own, so that it neither starves nor is starved by the loop's executor.

The event loop's side hands out work only while a thread is free for it; what is beyond that waits in a line on the
loop. So the loop knows when a call begins, and a call that is given up before that never runs.

A running thread cannot be stopped. When its call is given up (timeout, end of the grace period) the thread is
abandoned: its late return is ignored, it ends afterwards, and a fresh thread takes its place, so that capacity does
not shrink. All are daemon threads: an abandoned one must not keep the interpreter from exiting.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("ardiq.worker")

JOIN_S = 1.0
"""Idle threads end at once when told to; this bounds the wait should the machine be stalled."""


class _State(enum.Enum):
    WAITING = enum.auto()  # in the line on the loop, or on its way to a thread
    RUNNING = enum.auto()
    DONE = enum.auto()
    GIVEN_UP = enum.auto()


class _Work:
    __slots__ = ("args", "begun", "context", "error", "fn", "future", "kwargs", "state", "thread", "value")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: asyncio.Future[Any],
        begun: Callable[[], object] | None,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.future = future
        self.begun = begun
        self.context = contextvars.copy_context()
        self.state = _State.WAITING
        self.thread: threading.Thread | None = None
        self.value: Any = None
        self.error: BaseException | None = None


class ThreadPool:
    """At most `size` calls at a time for one event loop; threads are started when first needed.

    All methods are for the loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._loop = loop
        self._size = size
        self._busy = 0  # calls handed out whose end the loop has not seen
        self._line: deque[_Work] = deque()
        self._handed: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._ended: deque[_Work] = deque()
        self._rung = False
        self._lock = threading.Lock()  # guards the states of works and the two members below
        self._live: set[threading.Thread] = set()
        self._abandoned = 0
        self._numbers = itertools.count(1)

    @property
    def abandoned(self) -> int:
        """Threads that still run a call that was given up."""
        return self._abandoned

    async def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        begun: Callable[[], object] | None = None,
    ) -> Any:
        """Run `fn` in a thread, in a copy of the caller's context; what it returns or raises comes back.

        `begun` is called on the loop when a thread is free for the call. Cancelling gives the call up.
        """
        work = _Work(fn, args, kwargs, self._loop.create_future(), begun)
        if self._busy < self._size:
            self._hand_out(work)
        else:
            self._line.append(work)
        try:
            return await work.future
        finally:
            # Cancelled or closed from outside, as opposed to a CancelledError that fn itself has raised.
            if work.future.cancelled() or not work.future.done():
                self._give_up(work)

    def close(self) -> None:
        """End the idle threads. Call it when every call has ended or been given up."""
        with self._lock:
            threads = list(self._live)
        for _ in threads:
            self._handed.put(None)
        deadline = time.monotonic() + JOIN_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _hand_out(self, work: _Work) -> None:
        with self._lock:
            threads = len(self._live)
        if self._busy >= threads:
            self._start_thread(needed=threads == 0)
        self._busy += 1
        if work.begun is not None:
            work.begun()
        self._handed.put(work)

    def _start_thread(self, *, needed: bool) -> None:
        thread = threading.Thread(target=self._serve, name=f"ardiq-task-{next(self._numbers)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads: those there are serve the calls one after another
            if needed:
                raise
            logger.warning("no further thread can be started for tasks; %d are running", len(self._live))
            return
        with self._lock:
            self._live.add(thread)

    def _give_up(self, work: _Work) -> None:
        with self._lock:
            state, thread = work.state, work.thread
            if state is not _State.DONE:
                work.state = _State.GIVEN_UP
            if state is _State.RUNNING and thread is not None:
                self._live.discard(thread)
                self._abandoned += 1
        if state is _State.RUNNING:
            self._busy -= 1
            name = getattr(work.fn, "__qualname__", type(work.fn).__name__)
            logger.warning("the thread of %s runs on although its run was given up; %d such", name, self._abandoned)
            self._advance()
        elif state is _State.WAITING and work in self._line:
            self._line.remove(work)

    def _advance(self) -> None:
        while self._line and self._busy < self._size:
            self._hand_out(self._line.popleft())

    def _collect(self) -> None:
        # Cleared first: a thread that finds it set can rely on this loop to see what it has appended before.
        self._rung = False
        while self._ended:
            work = self._ended.popleft()
            self._busy -= 1
            if work.future.done():
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
                work.error = None  # it refers to frames that may refer to the future
            else:
                work.future.set_result(work.value)
        self._advance()

    def _serve(self) -> None:
        while (work := self._handed.get()) is not None:
            with self._lock:
                wanted = work.state is _State.WAITING
                if wanted:
                    work.state = _State.RUNNING
                    work.thread = threading.current_thread()
            if wanted:
                work.value, work.error = _call(work.context, work.fn, work.args, work.kwargs)
                with self._lock:
                    if work.state is _State.GIVEN_UP:
                        self._abandoned -= 1
                        return
                    work.state = _State.DONE
            self._ended.append(work)
            del work  # an idle thread keeps nothing alive
            if not self._rung:
                self._rung = True
                try:
                    self._loop.call_soon_threadsafe(self._collect)
                except RuntimeError:  # the loop was closed without closing the pool
                    return


def _call(
    context: contextvars.Context, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    try:
        return context.run(fn, *args, **kwargs), None
    except StopIteration as error:
        # A future cannot carry it; a coroutine function that raises it ends the same way.
        replacement = RuntimeError("task raised StopIteration")
        replacement.__cause__ = error
        return None, replacement
    except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the call and not the thread
        return None, error

"""The threads for `def` tasks: a pool of our own, so that it neither starves nor is starved by the
loop's executor.

The event loop passes a call to a thread only when one is free; other calls wait in a queue on the
loop. So the loop knows when a call starts and can still refuse it then, and a call that is
abandoned before that never runs.

A running thread cannot be stopped. When its call is abandoned (timeout, abort, end of the grace
period), so is the thread: its late return is ignored, it ends afterwards, and a fresh thread takes
its place, so that capacity does not shrink. All are daemon threads: an abandoned one must not keep
the interpreter from exiting.

The system may refuse a thread. The existing threads then serve the whole queue, and the pool tries
again from time to time. If there is no thread at all, the calls raise `NoThreadError`: they have
not started.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from ardiq_worker import forked
from ardiq_worker.exhaustion import NoThreadError, most_abandoned
from ardiq_worker.frames import clear_frames
from ardiq_worker.logs import Log

log = Log("ardiq.worker")

JOIN_S = 1.0
"""How long to wait for idle threads to end. They end at once, unless the machine is stalled."""

START_AGAIN_S = 10.0
"""How long to wait before the next try after the system has refused a thread."""


class NotBegunError(Exception):
    """A call waited for a thread, and was no longer wanted when it got one."""


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
        future: asyncio.Future[None],
        begun: Callable[[], bool] | None,
        context: contextvars.Context | None = None,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.future = future
        self.begun = begun
        self.context = context or contextvars.copy_context()
        self.state = _State.WAITING
        self.thread: threading.Thread | None = None
        self.value: Any = None
        self.error: BaseException | None = None


class ThreadPool:
    """At most `size` calls at a time for one event loop; threads are started when first needed.

    All methods are for the loop's thread. `exhausted` is called with the reason when no thread can
    be started at all, or when too many keep running although their calls were abandoned.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self.exhausted: Callable[[str], object] = log.error
        self._loop = loop
        self._size = size
        self._most_abandoned = most_abandoned(size)
        self._busy = 0  # calls that threads have and whose end the loop has not seen
        self._line: deque[_Work] = deque()
        self._handed: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._ended: deque[_Work] = deque()
        self._is_notified = False
        self._lock = threading.Lock()  # guards the states of works and the two members below
        self._live: set[threading.Thread] = set()
        self._abandoned = 0
        self._numbers = itertools.count(1)
        self._start_again = 0.0  # when a thread may be started again, after the system has refused one
        self._retry: asyncio.TimerHandle | None = None

    @property
    def abandoned(self) -> int:
        """The number of threads that still run a call that was abandoned."""
        return self._abandoned

    async def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        begun: Callable[[], bool] | None = None,
        context: contextvars.Context | None = None,
    ) -> Any:
        """Run `fn` in a thread, in `context` or a copy of the caller's, and return or raise its
        outcome.

        `begun` is called on the loop when a thread is free for the call. If it returns False, the
        call is dropped with a NotBegunError. Cancelling abandons the call. Raises NoThreadError if
        the call could not start.
        """
        work = _Work(fn, args, kwargs, self._loop.create_future(), begun, context)
        self._line.append(work)
        if self._busy < self._size:
            self._advance()
        try:
            await work.future
        finally:
            # The wait was cancelled or closed from outside. A CancelledError that fn itself has
            # raised does not count.
            if work.future.cancelled() or not work.future.done():
                self._give_up(work)
        error, work.error = work.error, None
        if error is None:
            return work.value
        try:
            # Do not raise it through the future, which would keep it alive: the exception refers to
            # this frame, and the frame to the future.
            raise error
        finally:
            del error

    def drop_line(self) -> int:
        """Drop the waiting calls that are no longer wanted; return how many were dropped."""
        waiting = len(self._line)
        self._line = deque(work for work in self._line if self._is_wanted(work))
        return waiting - len(self._line)

    def close(self) -> None:
        """End the idle threads. Call it when every call has ended or been abandoned."""
        if self._retry is not None:
            self._retry.cancel()
        with self._lock:
            threads = list(self._live)
        for _ in threads:
            self._handed.put(None)
        deadline = time.monotonic() + JOIN_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _advance(self) -> None:
        """Start the waiting calls while a thread is free or can be created."""
        while self._line and self._busy < self._size:
            with self._lock:
                live = len(self._live)
            if self._busy >= live and not self._start_thread(live):
                return
            work = self._line.popleft()
            if self._is_wanted(work):
                self._busy += 1
                self._handed.put(work)

    @staticmethod
    def _is_wanted(work: _Work) -> bool:
        if work.begun is None or work.begun():
            return True
        if not work.future.done():
            work.error = NotBegunError()
            work.future.set_result(None)
        return False

    def _start_thread(self, live: int) -> bool:
        if live and time.monotonic() < self._start_again:
            return False
        thread = threading.Thread(target=self._serve, name=f"ardiq-task-{next(self._numbers)}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError, OSError) as error:
            self._refused(live, error)
            return False
        with self._lock:
            self._live.add(thread)
        return True

    def _refused(self, live: int, error: Exception) -> None:
        self._start_again = time.monotonic() + START_AGAIN_S
        if live:
            log.warning(
                "no more threads can be started for tasks (%s); all tasks share the existing threads (%d). "
                "Raise the limit on threads (ulimit -u), or lower sync_concurrency",
                *(error, live),
            )
            if self._retry is not None:
                self._retry.cancel()
            self._retry = self._loop.call_later(START_AGAIN_S, self._advance)
            return
        while self._line:
            work = self._line.popleft()
            work.error = NoThreadError(str(error))
            if not work.future.done():
                work.future.set_result(None)
        self.exhausted(
            f"no thread can be started for tasks ({error}); raise the limit on processes and threads (ulimit -u, "
            "or the pids limit of the container), or lower sync_concurrency"
        )

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
            self._advance()
            log.warning(
                "the thread of %s is still running although its run was abandoned (abandoned threads: %d). "
                "Set timeouts on the calls inside this task",
                _name(work.fn),
                self._abandoned,
            )
            if self._abandoned >= self._most_abandoned:
                self.exhausted(
                    f"{self._abandoned} threads, the most allowed, are still running although their runs were abandoned; "
                    "set timeouts on the calls inside these tasks"
                )
        elif state is _State.WAITING and work in self._line:
            self._line.remove(work)

    def _collect(self) -> None:
        # Clear it first: a thread that finds it set can rely on this loop to see what it has
        # appended before.
        self._is_notified = False
        while self._ended:
            work = self._ended.popleft()
            self._busy -= 1
            if work.future.done():
                _forget(work)
            else:
                work.future.set_result(None)
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
                if forked.is_child:
                    forked.end(work.error)
                with self._lock:
                    late = work.state is _State.GIVEN_UP
                    if late:
                        self._abandoned -= 1
                    else:
                        work.state = _State.DONE
                if late:
                    _forget(work)
                    return
            self._ended.append(work)
            del work  # an idle thread keeps nothing alive
            if not self._is_notified:
                self._is_notified = True
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
        return None, _not_stop_iteration(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the call and not the thread
        return None, error


def _forget(work: _Work) -> None:
    """Release the outcome of an abandoned call."""
    value, error, work.value, work.error = work.value, work.error, None, None
    if error is not None:
        clear_frames(error)
    if isinstance(value, CoroutineType):
        value.close()  # or it would warn that it was never awaited


def _not_stop_iteration(error: StopIteration) -> RuntimeError:
    # A coroutine cannot raise StopIteration: Python turns it into a RuntimeError, too. This is a
    # function of its own because the traceback of `error` refers to the frame of the caller.
    replacement = RuntimeError("task raised StopIteration")
    replacement.__cause__ = error
    return replacement


def _name(fn: Callable[..., Any]) -> str:
    try:
        return str(fn.__qualname__)
    except BaseException:  # noqa: BLE001 - a callable object may compute it, and may raise anything
        return type(fn).__name__

"""Logs when the event loop is blocked: for how long, by which run, and where.

A blocked loop cannot log this, so a thread does. While jobs arrive or run, it pings the loop once a
second, and inspects the stack of the loop's thread if there is no response. While the worker is
idle, the thread sleeps too. It adds no work to any single job.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import CodeType, FrameType
from typing import Any

from ardiq_worker.logs import Log
from ardiq_worker.run import Run

log = Log("ardiq.worker")

LOOK_S = 1.0
"""Seconds between two pings."""

BLOCKED_S = 2.0
"""A loop that has not responded for this long is blocked, not just busy."""

AGAIN_FACTOR = 5
"""The warning repeats each time the block has lasted this many times longer."""

QUIET_S = 60.0
"""For this long after a block, only one of `BLOCKED_S` times `AGAIN_FACTOR` is logged."""

JOIN_S = 1.0
"""How long to wait for the thread. It ends at once unless logging blocks."""

_TURNS = frozenset({"_run_once", "run_forever", "run_until_complete", "run"})
"""The functions of asyncio in which a loop is between two callbacks."""

_CALLS = asyncio.Handle._run.__code__  # pyright: ignore[reportPrivateUsage] - there is no other way
"""The code that calls a callback of the loop."""

_ASYNCIO = asyncio.__file__.removesuffix("__init__.py")


class Watchdog:
    """Watches the event loop of the thread that creates it.

    `busy` returns whether any job runs; it is called from another thread. A run is recognized by
    its frame of code `run`, whose variable `run` is the `Run`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, busy: Callable[[], object], run: CodeType) -> None:
        self._loop = loop
        self._busy = busy
        self._run = run
        self._watched = threading.get_ident()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._awake = False
        self._active = False
        self._answered = False
        self._closed = False
        self._quiet_until = 0.0

    def activity(self) -> None:
        """Note that jobs have arrived. Runs on the loop once per batch, so it must be cheap."""
        self._active = True
        if not self._awake:
            self._awake = True
            self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="ardiq-watchdog", daemon=True)
                try:
                    self._thread.start()
                except (
                    RuntimeError,
                    MemoryError,
                ):  # continue without a watchdog; more important code has the same problem
                    self._closed = True

    def close(self) -> None:
        """Stop watching. Calling it twice is harmless."""
        self._closed = True
        self._wake.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(JOIN_S)

    def _watch(self) -> None:
        while not self._closed:
            self._active = False
            asked = time.monotonic()
            if not self._ask():
                return
            if not self._answered_within(BLOCKED_S):
                self._report(asked)
            self._pause(LOOK_S)
            if not self._active and not self._busy():
                self._sleep()

    def _ask(self) -> bool:
        self._answered = False
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _answer(self) -> None:
        self._answered = True
        self._wake.set()

    def _answered_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self._answered and not self._closed:
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._wake.wait(left)
            self._wake.clear()
        return True

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closed and (left := until - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()

    def _sleep(self) -> None:
        self._wake.clear()
        self._awake = False
        if not self._active and not self._closed:  # checked after clearing the flag; `activity` uses the reverse order
            self._wake.wait()
        self._awake = True

    def _report(self, asked: float) -> None:
        """Log the block at growing intervals until the loop responds."""
        due_s = BLOCKED_S if time.monotonic() >= self._quiet_until else BLOCKED_S * AGAIN_FACTOR
        said = False
        while not self._answered_within(asked + due_s - time.monotonic()):
            frame = sys._current_frames().get(self._watched)  # pyright: ignore[reportPrivateUsage] - there is no other way
            culprit = self._culprit(frame) if frame is not None else None
            if culprit is not None:
                said = True
                log.warning(
                    "the event loop has been blocked for %.1f s by %s; meanwhile the worker cannot run anything else or "
                    "stop gracefully. Await the call, or make the task a def function",
                    *(time.monotonic() - asked, culprit),
                )
            del frame
            due_s *= AGAIN_FACTOR
        if said and not self._closed:
            self._quiet_until = time.monotonic() + QUIET_S
            log.info("the event loop is responding again; it was blocked for %.1f s", time.monotonic() - asked)

    def _culprit(self, innermost: FrameType) -> str | None:
        """Describe what the loop's thread is doing; None if it waits for events, or is about to."""
        code = innermost.f_code
        place = f"at {code.co_filename}:{innermost.f_lineno} in {code.co_qualname}"
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_code is self._run:
                run = frame.f_locals.get("run")
                return f"{run.name}[{run.task_id}] {place}" if isinstance(run, Run) else place
            frame = frame.f_back
        if code is _CALLS:
            return _callback(innermost.f_locals.get("self"))
        if code.co_filename == selectors.__file__ or (code.co_filename.startswith(_ASYNCIO) and code.co_name in _TURNS):
            return None
        return f"code outside of tasks, {place}"


def _callback(handle: Any) -> str:
    """Describe the callback of `handle`, which has no Python frame: the loop calls a function in
    C.
    """
    whose, name = "code outside of tasks,", "that has no name"
    with suppress(BaseException):  # a callable object may compute its attributes, and may raise anything
        of_run = next((value for value in handle._context.values() if type(value) is Run), None)
        whose = f"{of_run.name}[{of_run.task_id}]" if of_run is not None else whose
        callback: Any = handle._callback
        while isinstance(callback, partial):
            callback = callback.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        module = getattr(callback, "__module__", None)
        name = ".".join(
            map(str, filter(None, (module, getattr(callback, "__qualname__", type(callback).__qualname__))))
        )
    return f"{whose} in the callback {name}"

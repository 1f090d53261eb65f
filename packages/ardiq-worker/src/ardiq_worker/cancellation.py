"""Decides whether a run that was cancelled counts as an attempt, although the worker did not cancel
it.

Application code can cancel every asyncio task of the loop: `asyncio.run` does so at its end, and a
task may do so by mistake. Then all runs end with a `CancelledError`, which does not say who caused
it. So the worker keeps one more asyncio task, a sentinel. It is cancelled together with the others,
and then checks which code is cancelling it.

| who cancels all tasks | what happens to the runs |
|---|---|
| `asyncio.run`, when its main coroutine has ended | they return to the queue and do not count as attempts |
| a run, or code that it has started | that run has failed this attempt; the others return |
| other code, to stop the worker of a program | they return to the queue and do not count as attempts |
| other code, in a worker's own process | each has failed this attempt |

The last row keeps jobs from repeating forever, since nothing stops such a worker.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import CodeType, FrameType

from ardiq.context import current_task
from ardiq_worker.logs import Log
from ardiq_worker.run import Run

log = Log("ardiq.worker")

OUT_OF_GRACE = "is returned to the queue: it did not end within the grace period"
WITH_ALL_TASKS = "is returned to the queue: all asyncio tasks of the worker were cancelled"
ENGINE_GONE = "was cancelled because the worker has failed. The job runs again when this worker's lease has expired"
"""Why a run was cancelled, for the log."""


def go_on() -> None:
    """Make the calling asyncio task, which runs the worker of a process, ignore its
    cancellation.
    """
    owner = asyncio.current_task()
    if owner is not None:
        owner.uncancel()
    log.error(
        "application code cancelled the worker's own asyncio task; the worker continues. To stop it, call `app.stop()`"
    )


class Cancellations:
    """Tells runs that caused their cancellation from those that did not.

    `running` holds the suspended runs by slot, and `run` is the code of a run's frame, whose
    variable `run` is the `Run`. `stops` says whether the worker stops when the asyncio task that
    creates this is cancelled.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        running: Mapping[int, Run],
        run: CodeType,
        stops: bool,
    ) -> None:
        self._loop = loop
        self._running = running
        self._run = run
        self._owner = asyncio.current_task(loop) if stops else None
        self._culprits: set[Run] = set()
        self._bystanders: set[Run] = set()
        self._sentinel: _Sentinel | None = None

    def watch(self) -> None:
        """Start the sentinel; without it, no run is known to be the cause."""
        self._sentinel = _Sentinel(self._loop, self._noticed)

    def close(self) -> None:
        """End the sentinel. Calling it twice is harmless."""
        if self._sentinel is not None:
            self._sentinel.dismiss()

    def excuse(self, run: Run) -> bool:
        """Return whether `run`, which ended with a CancelledError, does not count as an attempt."""
        if run in self._bystanders:
            return True
        return self._owner is not None and self._owner.cancelling() > 0 and run not in self._culprits

    def _noticed(self) -> None:
        """The sentinel is being cancelled by the running code, and so is every other task."""
        culprit = self._culprit()
        running = set(self._running.values())
        self._culprits &= running
        if culprit is None:
            self._bystanders = set()
            if self._owner is None:
                log.error("code outside of tasks cancelled all asyncio tasks; attempts that fail: %d", len(running))
            return
        self._culprits.add(culprit)
        self._bystanders = running - self._culprits
        log.error(
            "%s[%s] cancelled all asyncio tasks of the worker; other jobs returned to the queue: %d",
            *(culprit.name, culprit.task_id, len(self._bystanders)),
        )

    def _culprit(self) -> Run | None:
        """Return the run that the running code belongs to, unless it has ended."""
        frame: FrameType | None = sys._getframe()  # pyright: ignore[reportPrivateUsage] - there is no other way
        while frame is not None:
            if frame.f_code is self._run:
                found = frame.f_locals.get("run")
                return found if isinstance(found, Run) else None
            frame = frame.f_back
        # A callback, an asyncio task or a thread that a run has started: it has the context of that
        # run.
        run = current_task()
        return run if isinstance(run, Run) and self._running.get(run.slot) is run else None


class _Sentinel(asyncio.Task[None]):
    """Calls `noticed` when running code cancels it, and continues.

    It ends with its loop, or when dismissed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, noticed: Callable[[], object]) -> None:
        self._noticed = noticed
        self._dismissed = False
        super().__init__(_wait(loop.create_future()), loop=loop, name="ardiq-sentinel")

    def cancel(self, msg: object = None) -> bool:
        # `asyncio.run` cancels while the loop does not run, and then waits for all tasks.
        if self._dismissed or not self.get_loop().is_running():
            return super().cancel(msg)
        self._noticed()
        return False

    def dismiss(self) -> None:
        self._dismissed = True
        with suppress(RuntimeError):  # the loop is closed
            super().cancel()


async def _wait(future: asyncio.Future[None]) -> None:
    await future

"""Runs that are cut short: timed out, aborted, or cancelled because the worker stops.

A run that is cut short is cancelled, and may then clean up for a while. If it has not ended by
then, it is abandoned: it gets the outcome that was decided when it was cut short, and its slot is
given to another job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ardiq_worker import outcome
from ardiq_worker.failures import log_abandoned
from ardiq_worker.logs import Log
from ardiq_worker.run import Cut, Run

if TYPE_CHECKING:
    from ardiq_worker.outcome import Verdict

log = Log("ardiq.worker")


class Cuts:
    """Cuts runs on `loop` short.

    A cancelled run may clean up for `wait_s`. Then `end` is called with the run and its outcome.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wait_s: float, end: Callable[[Run, Verdict], object]) -> None:
        self._loop = loop
        self._wait_s = wait_s
        self._end = end
        self._open: set[Run] = set()

    @property
    def abandoned(self) -> int:
        """The number of runs that were abandoned and have not ended."""
        return sum(1 for run in self._open if run.cut is Cut.ABANDONED)

    def limit(self, run: Run, seconds: float) -> asyncio.TimerHandle:
        """Cut `run` short after `seconds`, unless the timer that this returns is cancelled."""
        return self._loop.call_later(seconds, self._time_out, run, seconds)

    def cut_short(self, run: Run, why: Cut, overdue: Verdict) -> None:
        """Cancel `run`; if it does not end in time, its outcome is `overdue`."""
        run.cut = why
        run.overdue = self._loop.call_later(self._wait_s, self._abandon, run, overdue)
        self._open.add(run)
        try:
            if run.asyncio_task is not None:
                run.asyncio_task.cancel()
        except BaseException as error:  # noqa: BLE001 - it calls `cancel` of what the task awaits, which may be the user's
            log.warning("a task cannot be cancelled: %s", outcome.type_name(error))

    def take(self, run: Run) -> Cut | None:
        """Note that a run has ended; return why it was cut short."""
        if run.overdue is not None:
            run.overdue.cancel()
            run.overdue = None
            self._open.discard(run)
        return run.cut

    def close(self) -> set[Run]:
        """Stop the timers; return the runs that were cut short and have not ended."""
        runs, self._open = self._open, set()
        for run in runs:
            if run.overdue is not None:
                run.overdue.cancel()
        return runs

    def _time_out(self, run: Run, seconds: float) -> None:
        if run.asyncio_task is not None and not run.asyncio_task.done() and run.cut is None:
            self.cut_short(run, Cut.TIMEOUT, outcome.timed_out(run, None, seconds))

    def _abandon(self, run: Run, overdue: Verdict) -> None:
        run.cut = Cut.ABANDONED
        log_abandoned(run, self._wait_s, self.abandoned)
        self._end(run, overdue)


def retrieve(asyncio_task: asyncio.Task[None]) -> None:
    """Take the exception of an ended task, so that asyncio does not log it."""
    if not asyncio_task.cancelled():
        asyncio_task.exception()

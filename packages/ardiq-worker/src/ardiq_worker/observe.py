"""An executor that reports every attempt that ends, for `ardiq dev`.

Other workers do not load this module.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ardiq_core import ABORTED, DEAD, FAILURE, RETRY, SUCCESS
from ardiq_worker import outcome
from ardiq_worker.execute import Engine, Executor
from ardiq_worker.logs import Log
from ardiq_worker.outcome import Verdict

if TYPE_CHECKING:
    from ardiq_core.shapes import Assignment, Outcome
    from ardiq_worker.run import Run
    from ardiq_worker.threads import ThreadPool

log = Log("ardiq.worker")

_OUTCOMES = {SUCCESS: "succeeded", RETRY: "retry", FAILURE: "failed", DEAD: "dead", ABORTED: "aborted"}


class Attempt(NamedTuple):
    """An attempt that has ended."""

    task: str
    job_id: str
    number: int
    """1 for the first attempt."""
    most: int
    """How many attempts the task allows."""
    seconds: float
    outcome: str
    """`succeeded`, `retry`, `failed`, `dead` or `aborted`."""
    delay_ms: int
    """With `retry`, the time until the next attempt."""
    error: str
    """What the task raised, or why it was aborted; empty after a success."""
    traceback: str


class ObservedExecutor(Executor):
    """Calls `observer` for each attempt of a task that is not silent, in place of the log line
    about a failure.

    Jobs that are returned to the queue, and jobs whose task is unknown, do not count as attempts.
    The log describes them.
    """

    def __init__(
        self,
        observer: Callable[[Attempt], object],
        loop: asyncio.AbstractEventLoop,
        threads: ThreadPool,
        flush: Callable[[], object],
        engine: Engine,
        **options: Any,
    ) -> None:
        super().__init__(loop, threads, flush, _Timed(engine, self._begin), **options)
        self._observer = observer
        self._open: dict[int, tuple[Assignment, float]] = {}
        self._error: BaseException | None = None  # of the attempt that is about to end
        self._traceback = ""

    def start(self, assignment: Assignment) -> None:
        """Start one run, and note when."""
        self._open[assignment[0]] = (assignment, time.monotonic())
        super().start(assignment)

    def _begin(self, slot: int) -> None:
        """Note that a run that waited for a thread begins now."""
        assignment, _ = self._open[slot]
        self._open[slot] = (assignment, time.monotonic())

    def _after_error(self, run: Run, error: BaseException, call: Any) -> Verdict | None:
        # The frames are cleared below, and the outcome of an attempt that is repeated has no
        # traceback.
        self._error, self._traceback = error, outcome.traceback_text(error) or ""
        ended = super()._after_error(run, error, call)
        if ended is None:
            self._error, self._traceback = None, ""
        return ended

    def _failed(self, run: Run, ended: Verdict, error: BaseException | None = None) -> Verdict:
        return ended

    def _aborted(self, run: Run, error: BaseException | None = None) -> Verdict:
        return outcome.aborted(run, error)

    def _forget(self, run: Run) -> None:
        self._open.pop(run.slot, None)
        super()._forget(run)

    def _end(self, slot: int, ended: Outcome) -> None:
        super()._end(slot, ended)
        run = self._open.pop(slot, None)
        error, traceback = self._error, self._traceback
        self._error, self._traceback = None, ""
        if run is None or self._closed:
            return
        try:
            attempt = self._attempt(*run, Verdict(*ended), error, traceback)
            if attempt is not None:
                self._observer(attempt)
        except Exception as fault:  # noqa: BLE001 - a log handler of the application may raise anything
            log.warning("a finished job could not be shown: %s", outcome.safe_repr(fault))

    def _attempt(
        self, assignment: Assignment, began: float, ended: Verdict, error: BaseException | None, traceback: str
    ) -> Attempt | None:
        _slot, job_id, name, _body, tries, *_ = assignment
        task = self._tasks.get(name)
        if task is None or task.silent or ended.kind not in _OUTCOMES:
            return None
        has_failed = ended.kind not in (SUCCESS, ABORTED)
        text = ""
        if isinstance(ended.value, str):
            text = ended.value
        elif ended.error_type == "TimeoutError" and (error is None or outcome.is_a(error, asyncio.CancelledError)):
            text = f"timed out after {task.timeout or 0:g}s"
        elif error is not None:
            text = outcome.safe_repr(error)
        return Attempt(
            task=name,
            job_id=job_id,
            number=tries,
            most=task.max_retries + 1,
            seconds=time.monotonic() - began,
            outcome=_OUTCOMES[ended.kind],
            delay_ms=ended.ttl_or_delay_ms or 0 if ended.kind == RETRY else 0,
            error=text,
            traceback=ended.traceback or traceback if has_failed else "",
        )


class _Timed:
    """Wraps the engine, and reports when a deferred run begins."""

    def __init__(self, engine: Engine, begun: Callable[[int], None]) -> None:
        self._engine = engine
        self._begun = begun

    def begin(self, slot: int) -> bool:
        if not self._engine.begin(slot):
            return False
        self._begun(slot)
        return True

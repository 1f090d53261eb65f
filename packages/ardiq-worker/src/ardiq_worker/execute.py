"""One job, from the assignment to its outcome.

`Executor._run` is the only way that a job runs: decode the arguments, call the function in a
context of its own, turn the end into an outcome. It never raises, whatever the task does, because
asyncio passes some exceptions on into the event loop. All steps share one value, the `Run`.

Most runs finish in the call that starts them (eager start) and cost nothing beyond their `Run` and
their asyncio task.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ardiq.context import enter
from ardiq.control import Abort, Reject
from ardiq_core import ABORTED
from ardiq_worker import forked, outcome
from ardiq_worker.awaiting import PLAIN, awaited
from ardiq_worker.cancellation import OUT_OF_GRACE, WITH_ALL_TASKS, Cancellations
from ardiq_worker.cuts import Cuts, retrieve
from ardiq_worker.exhaustion import NoThreadError, is_exhaustion
from ardiq_worker.failures import log_aborted, log_failure, log_returned, log_unknown
from ardiq_worker.frames import clear_frames
from ardiq_worker.inputs import with_inputs
from ardiq_worker.logs import Log, job_facts
from ardiq_worker.misfit import is_misfit
from ardiq_worker.outcome import Verdict
from ardiq_worker.run import Cut, Run
from ardiq_worker.threads import NotBegunError, ThreadPool

if TYPE_CHECKING:
    from ardiq.host import Codec
    from ardiq.task import Task
    from ardiq_core.shapes import Assignment, Outcome
    from ardiq_worker.inputs import Inputs
    from ardiq_worker.logs import Facts
    from ardiq_worker.notes import Notes
    from ardiq_worker.observe import Attempt

_COROUTINE: Any = CoroutineType  # typed as Any, so that type checkers assume nothing about its return value
_Call: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]]"

log = Log("ardiq.worker")

CLOSE_WAIT_S = 1.0
"""How long to wait for coroutines that were closed by force. They need one turn of the loop."""

# With eager start a run that does not wait for anything never goes through the loop's queue. Older
# loops queue it.
EAGER = sys.version_info >= (3, 12)
_TASK_OPTIONS: dict[str, Any] = {"eager_start": True} if EAGER else {}


class Engine(Protocol):
    """The part of the engine used here: it is told when deferred runs start.

    See `ardiq_core.Worker`.
    """

    def begin(self, slot: int) -> bool:
        """Start the run. If it returns False, the run must not start and is over."""
        ...


class Executor:
    """Runs jobs of `tasks` on `loop`. Collects the outcomes, and schedules `flush` once per batch.

    While `gathering` is true no flush is scheduled: the caller that starts jobs takes the outcomes
    of those that end at once. A cancelled run may clean up for `cancel_wait_s`; then its slot is
    given to another job. `failed` counts jobs that failed for good, without dead letters.
    `stops_when_cancelled` says whether cancelling the asyncio task that creates this stops the
    worker.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: ThreadPool,
        flush: Callable[[], object],
        engine: Engine,
        *,
        tasks: Mapping[str, Task[..., Any]],
        codec: Codec,
        queue: str,
        cancel_wait_s: float,
        elapsed_ms: Callable[[int], int | None] = lambda _slot: None,
        stops_when_cancelled: bool = True,
        notes: Notes | None = None,
    ) -> None:
        self.gathering = False
        self.verbose = False
        self.failed = 0
        self._outcomes: list[Outcome] = []
        self._tasks = tasks
        self._queue = queue
        self._codec = codec
        self._notes = notes
        self._decode = codec.decode_call
        self._encode = codec.encode_value
        self._context = contextvars.copy_context()
        self._loop = loop
        self._threads = threads
        self._flush = flush
        self._engine = engine
        self._elapsed_ms = elapsed_ms
        self._running: dict[int, Run] = {}
        self._why_cancelled = OUT_OF_GRACE
        self._closed = False
        self._cuts = Cuts(loop, cancel_wait_s, self._end_abandoned)
        self.cancellations = Cancellations(loop, self._running, self.RUN_CODE, stops_when_cancelled)

    @property
    def running(self) -> int:
        """The number of runs that hold a slot."""
        return len(self._running)

    @property
    def abandoned(self) -> int:
        """The number of cancelled coroutines and of threads that have not ended."""
        return self._cuts.abandoned + self._threads.abandoned

    @property
    def has_outcomes(self) -> bool:
        """Whether outcomes are waiting to be taken."""
        return bool(self._outcomes)

    def take_outcomes(self) -> list[Outcome]:
        """Return the outcomes since the last call."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def start(self, assignment: Assignment) -> None:
        """Start one run. Its outcome may be known before this returns."""
        slot, job_id, name, body, tries, enqueued_ms, headers, _lane, inputs = assignment
        task = self._tasks.get(name)
        if task is None:
            log_unknown(name, job_id, tries)
            self._end(slot, outcome.unknown_task(slot))
            return
        try:
            run = Run(slot, task, job_id, tries, self._queue, headers or {}, enqueued_ms, self._notes)
            asyncio_task = asyncio.Task(self._run(run, body, inputs), loop=self._loop, **_TASK_OPTIONS)
        except BaseException as error:  # noqa: BLE001 - a run raises nothing: there was no memory to start it
            self._threads.exhausted(f"a run could not start ({outcome.safe_repr(error)})")
            self.refuse(slot)
            return
        if not asyncio_task.done():
            run.asyncio_task = asyncio_task
            self._running[slot] = run

    def refuse(self, slot: int) -> None:
        """Return a job that has not started to the queue."""
        self._end(slot, outcome.handed_back(slot))

    def drop_waiting(self) -> int:
        """Drop the waiting runs whose jobs the engine has taken back; return their number."""
        return self._threads.drop_line()

    def cancel_all(self, why: str = OUT_OF_GRACE) -> None:
        """Cancel the running tasks and return their jobs to the queue; the log says `why`."""
        self._why_cancelled = why
        for run in list(self._running.values()):
            if run.cut is None:
                self._cuts.cut_short(run, Cut.STOPPING, outcome.handed_back(run.slot))

    def abort(self, slots: Iterable[int]) -> None:
        """Cancel the runs in these slots, whose jobs are to be aborted."""
        for slot in slots:
            run = self._running.get(slot)
            if run is not None:
                # In the next turn: a task cancelled before its first step would end without an
                # outcome.
                self._loop.call_soon(self._abort, run, context=self._context)

    def _abort(self, run: Run) -> None:
        if run.cut is None and self._running.get(run.slot) is run:
            self._cuts.cut_short(run, Cut.ABORTED, outcome.aborted(run))

    async def close(self, *, by_force: bool = True) -> None:
        """End abandoned coroutines; from now on no outcome of this executor counts.

        `by_force` also ends coroutines that ignore cancellation. Their cleanup may block the event
        loop.
        """
        self._closed = True
        runs = {*self._running.values(), *self._cuts.close()}
        self._running.clear()
        left = {run.asyncio_task for run in runs if run.asyncio_task is not None}
        if not left or not by_force:
            return
        for asyncio_task in left:
            # This task has ignored a cancellation, and would keep asyncio.run() from returning.
            asyncio_task.add_done_callback(retrieve)
            try:
                asyncio_task.get_coro().close()
            except BaseException as error:  # noqa: BLE001 - it ignores this too, or its cleanup fails
                log.warning("a cancelled task cannot be ended: %s", outcome.type_name(error))
            asyncio_task.cancel()
        await asyncio.wait(left, timeout=CLOSE_WAIT_S)

    async def _run(self, run: Run, body: bytes, inputs: Inputs | None = None) -> None:
        task = run.task
        if not EAGER and task.is_async and not self._engine.begin(run.slot):
            self._forget(run)
            return
        try:
            args, kwargs = self._decode(body)
            if inputs is not None:
                args, kwargs = with_inputs(self._codec, inputs, args, kwargs)
        except BaseException as error:  # noqa: BLE001 - a deserializer of the user's may raise anything
            self._end(run.slot, self._undecoded(run, error))
            return
        enter(run)
        timer: asyncio.TimerHandle | None = None
        ended: Outcome | None
        value: Any
        try:
            if not task.is_async:
                value = await self._in_thread(run, args, kwargs)
            else:
                if task.timeout is not None:
                    timer = self._cuts.limit(run, task.timeout)
                value = task.fn(*args, **kwargs)
                if type(value) is _COROUTINE:
                    value = await value
                if type(value) not in PLAIN:
                    value = await awaited(value)
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt and the like too: they are the task's, not the worker's
            if forked.is_child:
                forked.end(error)
            ended = self._after_error(run, error, (args, kwargs))
        else:
            if forked.is_child:
                forked.end(None)
            ended = self._after_return(run, value)
        if timer is not None:
            timer.cancel()
        if ended is not None:
            self._end(run.slot, ended)
        run.asyncio_task = None

    RUN_CODE = _run.__code__
    """The code of a run: the watchdog recognizes the frame of a run by it."""

    async def _in_thread(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        engine, seconds = self._engine, run.task.timeout
        context = contextvars.copy_context()
        timers: list[asyncio.TimerHandle] = []
        has_begun = False

        def begun() -> bool:
            nonlocal has_begun
            if not engine.begin(run.slot):
                return False
            has_begun = True
            if seconds is not None:  # waiting for a free thread does not count
                timers.append(self._cuts.limit(run, seconds))
            return True

        try:
            value = await self._threads.call(run.task.fn, args, kwargs, begun, context)
            return value if type(value) in PLAIN else await awaited(value, context)
        except asyncio.CancelledError:
            if run.cut is Cut.ABORTED and not has_begun:
                # The engine has already returned the job to the queue.
                raise NotBegunError from None
            raise
        finally:
            for timer in timers:
                timer.cancel()

    # From the end of a run to its outcome

    def _undecoded(self, run: Run, error: BaseException) -> Verdict:
        if is_exhaustion(error):
            return self._exhausted(run, error)
        return outcome.undecodable(run, error)

    def _exhausted(self, run: Run, error: BaseException) -> Verdict:
        """The job could not start, through no fault of its own."""
        facts = job_facts(run.name, run.task_id, run.tries, "returned")
        message = "%s[%s] is returned to the queue: this process has run out of resources"
        log.warning(message, run.name, run.task_id, facts=facts)
        if type(error) is not NoThreadError:  # the pool has already logged it
            self._threads.exhausted(f"the process has run out of resources ({outcome.safe_repr(error)})")
        return outcome.handed_back(run.slot)

    def _after_return(self, run: Run, value: Any) -> Outcome | None:
        if run.cut is not None:
            cut = self._cuts.take(run)
            if cut is Cut.ABANDONED:
                return None
            if cut is Cut.TIMEOUT:
                return self._failed(run, outcome.timed_out(run, None, run.task.timeout or 0))
            if cut is Cut.ABORTED:
                return self._aborted(run)
            # The worker is stopping, but the task has returned anyway: its result counts.
        try:
            encoded = self._encode(value)
        except BaseException as error:  # noqa: BLE001 - a serializer of the user's may raise anything
            facts = self._facts(run, "failed")
            log.error("%s[%s] returned a value that cannot be serialized", run.name, run.task_id, facts=facts)
            return outcome.unserializable(run, error)
        if self.verbose and not run.task.silent:
            facts = self._facts(run, "succeeded")
            log.debug("%s[%s] finished on attempt %d", run.name, run.task_id, run.tries, facts=facts)
        return outcome.returned(run, encoded)

    def _after_error(self, run: Run, error: BaseException, call: _Call) -> Verdict | None:
        try:
            ended = self._judge(run, error, call)
        except BaseException:  # noqa: BLE001 - out of memory, or an unforeseen error; the slot must not be lost
            try:
                ended = outcome.undescribed(run)
            except BaseException:  # noqa: BLE001 - the same again
                ended = outcome.unjudged(run)
        clear_frames(error)
        return ended

    def _judge(self, run: Run, error: BaseException, call: _Call) -> Verdict | None:
        cut = self._cuts.take(run)
        if cut is Cut.ABANDONED or self._closed or self._loop.is_closed():
            return None
        if type(error) is NoThreadError:
            return self._exhausted(run, error)
        if type(error) is NotBegunError:
            self._forget(run)
            return None
        if cut is Cut.TIMEOUT:
            return self._failed(run, outcome.timed_out(run, error, run.task.timeout or 0), error)
        if cut is Cut.ABORTED or outcome.is_a(error, Abort):
            return self._aborted(run, error)
        if cut is Cut.STOPPING and not outcome.is_a(error, Reject):
            # Whatever it raised, it did so because it was cancelled.
            return self._returned(run, self._why_cancelled)
        if outcome.is_a(error, asyncio.CancelledError) and self.cancellations.excuse(run):
            return self._returned(run, WITH_ALL_TASKS)
        if is_misfit(run.task, *call, error):
            return self._failed(run, outcome.misfit(run, error), error)
        return self._failed(run, outcome.raised(run, error), error)

    def _returned(self, run: Run, why: str) -> Verdict:
        log_returned(run, why, self._elapsed_ms(run.slot))
        return outcome.handed_back(run.slot)

    def _aborted(self, run: Run, error: BaseException | None = None) -> Verdict:
        if not run.task.silent:
            log_aborted(run, self._elapsed_ms(run.slot))
        return outcome.aborted(run, error)

    def _failed(self, run: Run, ended: Verdict, error: BaseException | None = None) -> Verdict:
        """Log a failed attempt."""
        if not run.task.silent:
            log_failure(run, ended, error, self._elapsed_ms(run.slot))
        return ended

    def _facts(self, run: Run, ended: str) -> Facts:
        return job_facts(run.name, run.task_id, run.tries, ended, self._elapsed_ms(run.slot))

    # Outcomes

    def _end_abandoned(self, run: Run, ended: Verdict) -> None:
        self._end(run.slot, self._aborted(run) if ended.kind == ABORTED else ended)

    def _forget(self, run: Run) -> None:
        """A run is over without an outcome: the engine has taken its job back."""
        self._running.pop(run.slot, None)
        if not self._outcomes and not self.gathering and not self._closed:
            self._loop.call_soon(self._flush, context=self._context)

    def _end(self, slot: int, ended: Outcome) -> None:
        self._running.pop(slot, None)
        if self._closed:
            return
        if type(ended) is Verdict and ended.is_final_failure:
            self.failed += 1
        outcomes = self._outcomes
        if not outcomes and not self.gathering:
            # Do not use the context of the run that happens to end: the runs that are started next
            # would inherit it.
            self._loop.call_soon(self._flush, context=self._context)
        outcomes.append(ended)


def executor_class(observer: Callable[[Attempt], object] | None) -> Callable[..., Executor]:
    """Return what creates an executor. It calls `observer`, if any, for each attempt that ends."""
    if observer is None:
        return Executor
    from ardiq_worker.observe import ObservedExecutor

    return partial(ObservedExecutor, observer)

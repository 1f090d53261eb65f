"""One job, from the assignment to its outcome.

`Executor._run` is the only way that a job runs: look up the task, decode the arguments, call the function in a context
of its own, turn the end into an outcome. It never raises, whatever the task does, because asyncio passes some
exceptions on into the event loop.

Most runs finish in the call that starts them (eager start) and cost nothing beyond their asyncio task. Only a run that
is cut short, by its timeout or by a stopping worker, gets a record of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
import sys
from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ardiq.context import TaskContext, enter
from ardiq.control import Reject, Retry
from ardiq_core import DEAD, FAILURE, RETRY
from ardiq_worker import forked, outcome
from ardiq_worker.awaiting import PLAIN, awaited
from ardiq_worker.exhaustion import NoThreadError, is_exhaustion
from ardiq_worker.frames import clear_frames
from ardiq_worker.logs import Log
from ardiq_worker.misfit import is_misfit
from ardiq_worker.threads import NotBegunError, ThreadPool

if TYPE_CHECKING:
    from ardiq.host import Codec
    from ardiq.task import Task
    from ardiq_core.shapes import Assignment, Outcome

_COROUTINE: Any = CoroutineType  # of any type, so that type checkers know nothing of what it returns
_Call: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]]"

log = Log("ardiq.worker")

CLOSE_WAIT_S = 1.0
"""Bound on the wait for coroutines that were closed by force; they need one turn of the loop."""

# With eager start a run that does not wait for anything never goes through the loop's queue. Older loops queue it.
EAGER = sys.version_info >= (3, 12)
_TASK_OPTIONS: dict[str, Any] = {"eager_start": True} if EAGER else {}


_FINAL_FAILURES = (FAILURE, DEAD)


class Engine(Protocol):
    """The part of the engine used here: it is told when deferred runs start. See `ardiq_core.Worker`."""

    def begin(self, slot: int) -> bool:
        """Start the run. If it returns False, the run must not start and is over."""
        ...


class _Why(enum.Enum):
    TIMEOUT = enum.auto()
    STOPPING = enum.auto()
    ABANDONED = enum.auto()  # one of the above, and it did not end in time: its outcome is settled


class _Interruption:
    __slots__ = ("timer", "why")

    def __init__(self, why: _Why, timer: asyncio.TimerHandle) -> None:
        self.why = why
        self.timer = timer


class Executor:
    """Runs jobs of `tasks` on `loop`; outcomes gather in `outcomes`, and `flush` is scheduled once per batch of them.

    While `gathering` no flush is scheduled: whoever starts jobs takes the outcomes of those that end at once. A cancelled
    run may clean up for `cancel_wait_s`; then its slot is given to another job. `failed` counts jobs that failed for good.
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
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.gathering = False
        self.verbose = False
        self.failed = 0
        self._tasks = tasks
        self._queue = queue
        self._decode = codec.decode_call
        self._encode = codec.encode_value
        self._context = contextvars.copy_context()
        self._loop = loop
        self._threads = threads
        self._flush = flush
        self._engine = engine
        self._cancel_wait_s = cancel_wait_s
        self._running: dict[int, asyncio.Task[None]] = {}
        self._interrupted: dict[asyncio.Task[None], _Interruption] = {}
        self._owner = asyncio.current_task(loop)
        self._closed = False

    @property
    def running(self) -> int:
        """Runs that hold a slot."""
        return len(self._running)

    @property
    def abandoned(self) -> int:
        """Cancelled coroutines that did not end in time, and threads that could not be stopped."""
        overdue = sum(1 for one in self._interrupted.values() if one.why is _Why.ABANDONED)
        return overdue + self._threads.abandoned

    def start(self, assignment: Assignment) -> None:
        """Start one run; its outcome arrives in `outcomes`, perhaps before this returns."""
        try:
            run = asyncio.Task(self._run(assignment), loop=self._loop, **_TASK_OPTIONS)
        except BaseException as error:  # noqa: BLE001 - a run raises nothing: there was no memory to start it
            self._threads.exhausted(f"a run could not start ({outcome.safe_repr(error)})")
            self.refuse(assignment)
            return
        if not run.done():
            self._running[assignment[0]] = run

    def refuse(self, assignment: Assignment) -> None:
        """Return a job that has not started to the queue."""
        self._end(assignment[0], outcome.handed_back(assignment[0]))

    def drop_waiting(self) -> int:
        """The worker stops, and the engine has taken back the jobs that wait for a thread; return their number."""
        return self._threads.drop_line()

    def cancel_all(self) -> None:
        """Cancel what runs, to be handed back: the grace period is over."""
        for slot, run in list(self._running.items()):
            if run not in self._interrupted:
                self._interrupt(run, _Why.STOPPING, slot, outcome.handed_back(slot))

    async def close(self, *, by_force: bool = True) -> None:
        """Put an end to abandoned coroutines; from now on no outcome of this executor counts.

        `by_force` also ends coroutines that ignore cancellation. Their cleanup may block the event loop.
        """
        self._closed = True
        left = {*self._running.values(), *self._interrupted}
        for interruption in self._interrupted.values():
            interruption.timer.cancel()
        self._interrupted.clear()
        self._running.clear()
        if not left or not by_force:
            return
        for run in left:
            # It has ignored a cancellation. Left alone it would keep asyncio.run() from returning.
            run.add_done_callback(_retrieve)
            try:
                run.get_coro().close()
            except BaseException as error:  # noqa: BLE001 - it ignores this too, or its cleanup fails
                log.warning("a cancelled task cannot be ended: %s", outcome.type_name(error))
            run.cancel()
        await asyncio.wait(left, timeout=CLOSE_WAIT_S)

    async def _run(self, assignment: Assignment) -> None:
        slot, job_id, name, payload, tries, enqueue_time, headers, _lane = assignment
        task = self._tasks.get(name)
        if task is None:
            log.warning("%s[%s] is not a task of this worker", name, job_id)
            self._end(slot, outcome.unknown_task(slot))
            return
        if not EAGER and task.is_async and not self._engine.begin(slot):
            self._forget(slot)
            return
        try:
            args, kwargs = self._decode(payload)
        except BaseException as error:  # noqa: BLE001 - a deserializer of the user's may raise anything
            self._end(slot, self._undecoded(slot, task, job_id, error))
            return
        enter(TaskContext(job_id, name, tries, self._queue, headers or {}, enqueue_time))
        timer: asyncio.TimerHandle | None = None
        value: Any
        try:
            if not task.is_async:
                value = await self._in_thread(task, args, kwargs, slot, tries)
            else:
                if task.timeout is not None:
                    timer = self._limit(task, task.timeout, slot, tries)
                value = task.fn(*args, **kwargs)
                if type(value) is _COROUTINE:
                    value = await value
                if type(value) not in PLAIN:
                    value = await awaited(value)
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt and the like too: they are the task's, not the worker's
            if forked.is_child:
                forked.end(error)
            ended = self._after_error(slot, tries, task, job_id, error, (args, kwargs))
        else:
            if forked.is_child:
                forked.end(None)
            ended = self._after_return(slot, tries, task, job_id, value)
        if timer is not None:
            timer.cancel()
        if ended is not None:
            self._end(slot, ended)

    RUN_CODE = _run.__code__
    """The code of a run: the watchdog recognizes the frame of a run by it."""

    async def _in_thread(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], slot: int, tries: int
    ) -> Any:
        engine, seconds = self._engine, task.timeout
        context = contextvars.copy_context()
        timers: list[asyncio.TimerHandle] = []
        run = _this_run()

        def begun() -> bool:
            if not engine.begin(slot):
                return False
            if seconds is not None:  # waiting for a free thread does not count
                timers.append(self._limit(task, seconds, slot, tries, run))
            return True

        try:
            value = await self._threads.call(task.fn, args, kwargs, begun, context)
            return value if type(value) in PLAIN else await awaited(value, context)
        finally:
            for timer in timers:
                timer.cancel()

    def _undecoded(self, slot: int, task: Task[..., Any], job_id: str, error: BaseException) -> Outcome:
        if is_exhaustion(error):
            return self._exhausted(slot, task, job_id, error)
        log.error("%s[%s] has arguments that cannot be decoded and becomes a dead letter", task.name, job_id)
        return outcome.undecodable(slot, error, task)

    def _exhausted(self, slot: int, task: Task[..., Any], job_id: str, error: BaseException) -> Outcome:
        """The job could not start, through no fault of its own."""
        log.warning("%s[%s] is returned to the queue: this process has run out of resources", task.name, job_id)
        if type(error) is not NoThreadError:  # the pool has already logged it
            self._threads.exhausted(f"the process has run out of resources ({outcome.safe_repr(error)})")
        return outcome.handed_back(slot)

    def _after_return(self, slot: int, tries: int, task: Task[..., Any], job_id: str, value: Any) -> Outcome | None:
        if self._interrupted and (why := self._take_interruption()) is not None:
            if why is _Why.ABANDONED:
                return None
            if why is _Why.TIMEOUT:
                return self._failed(outcome.timed_out(slot, None, tries, task.timeout or 0, task), task, job_id, tries)
            # The worker is stopping and the task has finished all the same: its result stands.
        try:
            encoded = self._encode(value)
        except BaseException as error:  # noqa: BLE001 - a serializer of the user's may raise anything
            log.error("%s[%s] returned a value that cannot be serialized", task.name, job_id)
            return outcome.unserialisable(slot, error, task)
        if self.verbose and not task.silent:
            log.debug("%s[%s] finished in attempt %d", task.name, job_id, tries)
        return outcome.returned(slot, encoded, task)

    def _after_error(
        self, slot: int, tries: int, task: Task[..., Any], job_id: str, error: BaseException, call: _Call
    ) -> Outcome | None:
        try:
            ended = self._judge(slot, tries, task, job_id, error, call)
        except BaseException:  # noqa: BLE001 - out of memory, or an unforeseen error; the slot must not be lost
            try:
                ended = outcome.undescribed(slot, tries, task)
            except BaseException:  # noqa: BLE001 - the same again
                ended = outcome.unjudged(slot)
        clear_frames(error)
        return ended

    def _judge(
        self, slot: int, tries: int, task: Task[..., Any], job_id: str, error: BaseException, call: _Call
    ) -> Outcome | None:
        why = self._take_interruption() if self._interrupted else None
        if why is _Why.ABANDONED or self._closed or self._loop.is_closed():
            return None
        if type(error) is NoThreadError:
            return self._exhausted(slot, task, job_id, error)
        if type(error) is NotBegunError:
            self._forget(slot)
            return None
        if why is _Why.TIMEOUT:
            ended = outcome.timed_out(slot, error, tries, task.timeout or 0, task)
        elif (why is _Why.STOPPING and not outcome.is_a(error, Reject)) or self._cancelled_with_worker(error):
            # Whatever it raised, it did so because it was cancelled.
            log.info("%s[%s] is returned to the queue: it did not end within the grace period", task.name, job_id)
            return outcome.handed_back(slot)
        elif is_misfit(task, *call, error):
            ended = outcome.misfit(slot, error, task)
        else:
            ended = outcome.raised(slot, error, tries, task)
        return self._failed(ended, task, job_id, tries, error)

    def _cancelled_with_worker(self, error: BaseException) -> bool:
        """Whether all tasks of the loop are being cancelled, the worker's with them: so does `asyncio.run` at its end."""
        return outcome.is_a(error, asyncio.CancelledError) and self._owner is not None and self._owner.cancelling() > 0

    def _failed(
        self, ended: Outcome, task: Task[..., Any], job_id: str, tries: int, error: BaseException | None = None
    ) -> Outcome:
        """Log a failed attempt. What the exception says may hold arguments: only its type and place are logged."""
        if task.silent:
            return ended
        _, kind, _, delay_ms, error_type, _ = ended
        asked = kind == RETRY and error is not None and outcome.is_a(error, Retry)
        level = logging.INFO if asked else logging.ERROR if kind == FAILURE else logging.WARNING
        if log.enabled(level):
            then = f"again in {delay_ms} ms" if kind == RETRY else "for good"
            attempts = task.max_retries + 1
            place = outcome.place(error) if error is not None else ""
            log.log(
                level,
                "%s[%s] failed in attempt %d of %d, %s: %s%s",
                *(task.name, job_id, tries, attempts, then, error_type, place),
            )
        return ended

    def _limit(
        self,
        task: Task[..., Any],
        seconds: float,
        slot: int,
        tries: int,
        run: asyncio.Task[None] | None = None,
    ) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, self._time_out, run or _this_run(), task, seconds, slot, tries)

    def _time_out(self, run: asyncio.Task[None], task: Task[..., Any], seconds: float, slot: int, tries: int) -> None:
        if not run.done() and run not in self._interrupted:
            self._interrupt(run, _Why.TIMEOUT, slot, outcome.timed_out(slot, None, tries, seconds, task))

    def _interrupt(self, run: asyncio.Task[None], why: _Why, slot: int, overdue: Outcome) -> None:
        timer = self._loop.call_later(self._cancel_wait_s, self._abandon, run, slot, overdue)
        self._interrupted[run] = _Interruption(why, timer)
        try:
            run.cancel()
        except BaseException as error:  # noqa: BLE001 - it calls `cancel` of what the task awaits, which may be the user's
            log.warning("a task cannot be cancelled: %s", outcome.type_name(error))

    def _abandon(self, run: asyncio.Task[None], slot: int, overdue: Outcome) -> None:
        self._interrupted[run].why = _Why.ABANDONED
        log.warning(
            "a cancelled task did not end within %gs and is given up; %d such tasks",
            self._cancel_wait_s,
            self.abandoned,
        )
        self._end(slot, overdue)

    def _take_interruption(self) -> _Why | None:
        interruption = self._interrupted.pop(_this_run(), None)
        if interruption is None:
            return None
        interruption.timer.cancel()
        return interruption.why

    def _forget(self, slot: int) -> None:
        """A run is over without an outcome: the engine has taken its job back."""
        self._running.pop(slot, None)
        if not self.outcomes and not self.gathering and not self._closed:
            self._loop.call_soon(self._flush, context=self._context)

    def _end(self, slot: int, ended: Outcome) -> None:
        self._running.pop(slot, None)
        if self._closed:
            return
        if ended[1] in _FINAL_FAILURES:
            self.failed += 1
        outcomes = self.outcomes
        if not outcomes and not self.gathering:
            # Not in the context of the run that happens to end: what is started next would inherit it.
            self._loop.call_soon(self._flush, context=self._context)
        outcomes.append(ended)


def _this_run() -> asyncio.Task[None]:
    run = asyncio.current_task()
    assert run is not None  # a run is an asyncio task, and all of it runs inside
    return run


def _retrieve(run: asyncio.Task[None]) -> None:
    if not run.cancelled():
        run.exception()

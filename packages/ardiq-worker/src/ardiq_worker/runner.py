"""One run of a worker, from start to sign-off, on the event loop that called it.

The worker pulls one job at a time with `Worker.next`, when the engine wakes the loop and whenever
outcomes were submitted, so a job begins when its code does. Jobs that end while they are started
are submitted as a batch, and others are pulled in their place, for `TURN_S` at most, so I/O, timers
and signals always get their turn. Outcomes of jobs that end later are collected and submitted once
per turn.

Shutdown happens in this order. Nothing more is fetched or fired, and jobs that have not started
return to the queue. Running tasks have the grace period; then they are cancelled and returned.
After the last outcome the engine settles and signs off. Only then are the wake-up, the coroutines
that ignore their cancellation, and the threads closed.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ardiq.errors import BrokerError, WorkerExhaustedError
from ardiq.host import Host, WakeUp
from ardiq_core import Worker
from ardiq_worker import forked
from ardiq_worker.cancellation import ENGINE_GONE, go_on
from ardiq_worker.execute import EAGER, Executor, executor_class
from ardiq_worker.logs import Log, forward_logs
from ardiq_worker.notes import Notes
from ardiq_worker.schedule import Timer
from ardiq_worker.threads import ThreadPool
from ardiq_worker.watchdog import Watchdog

if TYPE_CHECKING:
    from ardiq.options import RunSettings
    from ardiq_worker.observe import Attempt

log = Log("ardiq.worker")

TURN_S = 0.005
"""How long to start jobs, which run until they first wait, before the event loop gets its turn."""

CANCEL_WAIT_S = 5.0
"""How long a cancelled task may take to clean up before the worker abandons it."""

SETTLE_MARGIN_S = 10.0
"""How long to wait for the engine's sign-off beyond the connect timeout, its own limit."""


class _Phase(enum.Enum):
    RUNNING = enum.auto()
    STOPPING = enum.auto()  # tasks have their grace period, or are being cancelled
    SETTLING = enum.auto()  # no task runs; the engine signs off
    FAILED = enum.auto()  # the engine is gone; tasks are being cancelled
    ENDED = enum.auto()


class Runner:
    """One run of a worker of `host`; create it on the loop that is to run it.

    `stop`, `skip_grace` and `set_burst` may be called from any thread or signal handler, at any
    time, repeatedly. With `ends_process`, a run ignores cancellation.
    """

    def __init__(
        self,
        host: Host,
        settings: RunSettings,
        *,
        ends_process: bool = False,
        observer: Callable[[Attempt], object] | None = None,
    ) -> None:
        forked.own()
        app = self._app = host.app
        self._settings = settings
        self._burst = settings.burst
        self._ends_process = ends_process
        self._loop = asyncio.get_running_loop()
        self._core = host.core()
        self._worker = Worker(
            self._core,
            worker_id=app.worker_id,
            concurrency=settings.concurrency,
            prefetch=settings.prefetch,
            lease_ms=app.idle_timeout_ms,
            result_ttl_ms=app.result_ttl_ms,
            burst=settings.burst,
        )
        # A task that waits for a thread, or for the loop's next turn, has not started.
        self._worker.defer([name for name, task in host.tasks.items() if not (EAGER and task.is_async)])
        self._threads = ThreadPool(self._loop, settings.sync_concurrency)
        self._threads.exhausted = self._exhausted
        self._executor = executor_class(observer)(
            self._loop,
            self._threads,
            self._flush,
            self._worker,
            tasks=host.tasks,
            codec=host.codec,
            queue=app.queue_name,
            cancel_wait_s=CANCEL_WAIT_S,
            elapsed_ms=self._worker.elapsed_ms,
            stops_when_cancelled=not ends_process,
            notes=Notes(host, self._worker),
        )
        self._watchdog = Watchdog(self._loop, lambda: self._executor.running, Executor.RUN_CODE)
        self._timer = Timer(
            self._loop,
            self._core.mailbox,
            host.schedules,
            poll_s=app.cron_poll_s,
            now_ms=self._worker.now_ms,
            paused=lambda: self._burst,
        )
        self._phase = _Phase.RUNNING
        self._has_stopped = self._signed_off = False  # the engine has stopped gracefully
        self._drained = False
        self._dead = 0  # dead letters that the engine reported
        self._failure: Exception | None = None
        self._has_more = False  # the turn ended before the jobs did
        self._deadline: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def worker_id(self) -> str:
        """The id of the current incarnation. It changes when the lease is lost."""
        return self._worker.worker_id

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that this runs on."""
        return self._loop

    @property
    def running(self) -> int:
        """The number of running tasks."""
        return self._executor.running

    @property
    def failed(self) -> int:
        """The number of jobs that failed for good in this run."""
        return self._executor.failed + self._dead

    @property
    def drained(self) -> bool:
        """Whether the run ends, or has ended, because no work was left in burst mode."""
        return self._drained

    @property
    def abandoned(self) -> int:
        """The number of tasks that keep running although they were cut short."""
        return self._executor.abandoned

    def stop(self) -> None:
        """Stop gracefully, in the order that the head of this module describes."""
        self._soon(self._begin_stop)

    def skip_grace(self) -> None:
        """Stop, and cancel running tasks now instead of after the grace period."""
        self._soon(self._end_grace)

    def set_burst(self, burst: bool) -> None:
        """Set whether the run ends when no job is waiting, running or scheduled."""
        self._soon(lambda: self._change_burst(burst))

    async def run(self) -> None:
        """Work until stopped, or drained in burst mode.

        A cancellation stops the worker gracefully, and a second one skips the grace period. The
        CancelledError is raised at the end. Raises BrokerError if the engine gives up.
        """
        wakeup = WakeUp(self._loop, self._worker.fileno(), self._guarded(self._on_wakeup))
        interruption: asyncio.CancelledError | None = None
        try:
            self._executor.cancellations.watch()
            self._worker.start()
            self._timer.start()
            log.info(
                "worker %s serves queue %s: concurrency %d, prefetch %d",
                *(self.worker_id, self._app.queue_name, self._settings.concurrency, self._settings.prefetch),
            )
            interruption = await self._until_ended()
        finally:
            self._phase = _Phase.ENDED
            self._timer.close()
            wakeup.close()
            self._executor.cancellations.close()
            if not self._has_stopped:
                # From now on, the engine returns what it fetches to the queue.
                with suppress(Exception):
                    self._worker.finish_stop()
            try:
                await self._executor.close(by_force=not self._ends_process)
            finally:
                self._threads.close()
                self._watchdog.close()
                self._forward_logs()
        if self._failure is not None:
            raise self._failure
        if self._signed_off:
            log.info("worker %s has signed off", self.worker_id)
        if interruption is not None:
            raise interruption

    async def _until_ended(self) -> asyncio.CancelledError | None:
        interruption = None
        while self._phase is not _Phase.ENDED:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                if self._ends_process:
                    go_on()
                    continue
                self._guarded(self._begin_stop if interruption is None else self._end_grace)()
                interruption = error
        return interruption

    # Jobs

    def _on_wakeup(self) -> None:
        self._executor.verbose = log.enabled(logging.DEBUG)
        self._watchdog.activity()
        events = self._worker.take()
        self._start()
        for kind, detail in events:
            self._on_event(kind, detail)

    def _flush(self) -> None:
        outcomes = self._executor.take_outcomes()
        if self._phase is _Phase.FAILED:
            self._end_if_idle()
            return
        try:
            self._worker.complete(outcomes)
            self._start()
            if self._phase is _Phase.STOPPING:
                self._settle_if_idle()
        except Exception as error:  # noqa: BLE001 - whichever it is, it ends the run and is raised there
            self._fail(error)

    def _start(self) -> None:
        """Pull and start jobs until none are left, all slots are taken, or the turn is over."""
        if self._phase is not _Phase.RUNNING or self._has_more:
            return
        executor, worker, turn_ends = self._executor, self._worker, time.monotonic() + TURN_S
        executor.gathering = True
        try:
            while True:
                assignment = worker.next()
                if assignment is not None:
                    executor.start(assignment)
                elif executor.has_outcomes:
                    worker.complete(executor.take_outcomes())
                else:
                    worker.pulled()
                    return
                if time.monotonic() > turn_ends:
                    break
        finally:
            executor.gathering = False
        worker.pulled()
        self._has_more = True
        self._loop.call_soon(self._guarded(self._continue))

    def _continue(self) -> None:
        self._has_more = False
        if self._executor.has_outcomes:
            self._flush()
        else:
            self._start()

    # Events of the engine

    def _on_event(self, kind: str, detail: str) -> None:
        if kind == "log":
            self._forward_logs()
        elif kind == "drained":
            if self._burst and self._phase is _Phase.RUNNING:
                self._drained = True
                self._begin_stop()
        elif kind == "abort":
            self._executor.abort(self._worker.take_aborts())
        elif kind == "lost":
            log.info("worker %s continues as %s", detail, self.worker_id)  # the engine's log says why
        elif kind == "settling" and self._phase is _Phase.SETTLING:
            self._limit_sign_off()  # a large outcome is still being sent
        elif kind == "stopped" and self._phase is _Phase.SETTLING:
            self._has_stopped = True
            self._signed_off = not detail  # else the engine's log says why
            self._end()
        elif kind in ("stopped", "failed"):
            error = self._worker.sign_on_error() or BrokerError(detail or "the engine has stopped; the log says why")
            self._fail(Host(self._app).explain(error))

    def _forward_logs(self) -> None:
        self._dead += forward_logs(self._core)

    # Stopping

    def _change_burst(self, burst: bool) -> None:
        self._burst = burst
        self._worker.set_burst(burst)
        self._timer.start()

    def _begin_stop(self) -> None:
        if self._phase is not _Phase.RUNNING:
            return
        self._phase = _Phase.STOPPING
        self._timer.close()
        self._worker.begin_stop()
        running, grace_s = self.running - self._executor.drop_waiting(), self._settings.shutdown_grace_s
        tasks = "1 running task has" if running == 1 else f"{running} running tasks have"
        log.info("worker %s is stopping; %s %g s to finish", self.worker_id, tasks, grace_s)
        self._limit(grace_s, self._end_grace)
        self._settle_if_idle()

    def _end_grace(self) -> None:
        self._begin_stop()
        if self._phase is _Phase.STOPPING:
            # In the next turn: a task cancelled before its first step would end without an outcome.
            self._loop.call_soon(self._executor.cancel_all)

    def _exhausted(self, why: str) -> None:
        """The process has run out of a resource: stop gracefully and then fail, so that another
        process replaces it.

        Called while runs start and end, so the stop waits for the next turn. Until then the engine
        returns no jobs.
        """
        if self._phase is not _Phase.RUNNING or self._failure is not None:
            return
        self._failure = WorkerExhaustedError(f"the worker has stopped: {why}")
        log.error("worker %s is stopping: %s", self.worker_id, why)
        self._worker.begin_stop()
        self._loop.call_soon(self._guarded(self._begin_stop))

    def _settle_if_idle(self) -> None:
        if self.running or self._executor.has_outcomes:
            return
        self._phase = _Phase.SETTLING
        self._limit_sign_off()
        self._worker.finish_stop()

    def _limit_sign_off(self) -> None:
        self._limit(self._app.connect_timeout_s + SETTLE_MARGIN_S, self._settles_too_long)

    def _settles_too_long(self) -> None:
        self._fail(BrokerError("the worker could not sign off; check the Redis server"))

    def _fail(self, error: Exception) -> None:
        if self._phase in (_Phase.FAILED, _Phase.ENDED):
            return
        self._failure = error
        self._phase = _Phase.FAILED
        self._timer.close()
        self._executor.cancel_all(ENGINE_GONE)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self.running:
            self._end()

    def _end(self) -> None:
        self._phase = _Phase.ENDED
        self._limit(0, None)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Calls from other threads and signal handlers

    def _limit(self, seconds: float, then: Callable[[], object] | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, self._guarded(then)) if then is not None else None

    def _soon(self, step: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._guarded(step))
        except RuntimeError:  # the loop is closed, and nothing runs on it
            log.debug("the worker's loop is closed")

    def _guarded(self, step: Callable[[], object]) -> Callable[[], None]:
        """Return `step` for use as a callback of the loop.

        An error in it ends the run, so that the worker does not stay up without doing any work.
        """

        def guarded() -> None:
            if self._phase is _Phase.ENDED:
                return
            try:
                step()
            except Exception as error:  # noqa: BLE001 - whichever it is, it ends the run and is raised there
                self._fail(error)

        return guarded

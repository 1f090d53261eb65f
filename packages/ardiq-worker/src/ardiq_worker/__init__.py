"""The worker of ArdiQ: runs the tasks and schedules of an `ardiq.Ardiq` app.

You do not call this package directly. `await app.run()` and the command `ardiq run` do.

| module | what it does |
|---|---|
| `runner` | one run of a worker, from start to sign-off |
| `settings` | the options of such a run |
| `execute` | one job, from the assignment to the outcome |
| `outcome` | decides what the end of a task means for its job |
| `misfit` | detects calls that do not match the task's function |
| `awaiting` | awaits what a task returns, if it is awaitable |
| `threads` | the thread pool for `def` tasks |
| `exhaustion` | detects that the process has run out of a resource |
| `forked` | ends a process that a task has forked |
| `frames` | frees the memory that a failed task's traceback holds |
| `schedule` | recurring tasks |
| `watchdog` | reports a blocked event loop |
| `logs` | the log, which never raises |
| `printable_log` | keeps control characters out of the log |
| `version` | checks that worker and client have the same version |
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Unpack

from ardiq_worker.logs import Log
from ardiq_worker.printable_log import protect
from ardiq_worker.runner import Runner
from ardiq_worker.settings import settings
from ardiq_worker.version import check_version

if TYPE_CHECKING:
    from ardiq.app import Ardiq
    from ardiq.options import RunOptions

__version__ = check_version()

protect("ardiq.worker")

__all__ = ["Ended", "__version__", "run_app"]


class Ended(NamedTuple):
    """How a run of a worker ended."""

    failed: int
    """Jobs that failed permanently in this run."""
    drained: bool
    """Whether it ended because no job was waiting, running or due in burst mode, rather than by a stop."""


async def run_app(
    app: Ardiq, last_stop: object = None, /, *, ends_process: bool = False, **overrides: Unpack[RunOptions]
) -> Ended:
    """Run a worker of `app` on the running event loop; what `app.run` calls.

    `overrides` replace the app's options: `concurrency`, `prefetch`, `sync_concurrency`, `shutdown_grace_s`, `burst`.
    If the process ends after the run, pass `ends_process`: then the run does not end coroutines that ignore cancellation.
    `last_stop` is the app's value when the run was requested; None means now. If the app was told to stop since then,
    the run does not start. Returns when stopped, or when drained in burst mode. Raises BrokerError if Redis cannot be
    reached at the start or the engine gives up, WorkerExhaustedError if the process has run out of threads, memory or
    descriptors, RuntimeError if the app's worker is already running, and ValueError for a schedule that never matches.
    """
    last_stop = last_stop or app._last_stop
    present = app._runner
    if isinstance(present, Runner) and not present.loop.is_closed():
        raise RuntimeError(
            f"the worker of {app!r} is already running; stop it first, or use another app for another worker"
        )
    options = settings(app, **overrides)
    if app._last_stop is not last_stop:
        Log("ardiq.worker").info("the worker of queue %s was told to stop before it started", app.queue_name)
        return Ended(failed=0, drained=False)
    app._runner = None
    runner = Runner(app, options, ends_process=ends_process)
    app._runner = runner
    if app._last_stop is not last_stop:  # by another thread, which may not have seen the runner
        runner.stop()
    try:
        await runner.run()
        return Ended(runner.failed, runner.drained)
    finally:
        if app._runner is runner:
            app._runner = None

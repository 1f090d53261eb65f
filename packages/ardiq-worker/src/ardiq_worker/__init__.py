"""The worker of ArdiQ: runs the tasks and schedules of an `ardiq.Ardiq` app.

You do not call this package directly. `await app.run()` and the command `ardiq run` do.

| module | what it does |
|---|---|
| `runner` | one run of a worker, from start to sign-off |
| `execute` | one job, from the assignment to the outcome |
| `run` | one attempt of one job, as one value |
| `notes` | passes progress and checkpoints of runs to the engine |
| `cuts` | runs that are cut short: timed out, aborted, or cancelled by a stop |
| `outcome` | decides what the end of a task means for its job |
| `failures` | the log lines about failed attempts and unknown tasks |
| `description` | describes an exception as text of bounded length |
| `inputs` | makes arguments of the outputs of other jobs |
| `misfit` | detects calls that do not match the task's function |
| `awaiting` | awaits what a task returns, if it is awaitable |
| `threads` | the thread pool for `def` tasks |
| `cancellation` | decides whether a run that application code cancelled counts as an attempt |
| `exhaustion` | detects that the process has run out of a resource |
| `forked` | ends a process that a task has forked |
| `frames` | frees the memory that a failed task's traceback holds |
| `observe` | reports every attempt that ends, for `ardiq dev` |
| `schedule` | recurring tasks: which occurrence is due, and the timer that fires it |
| `occurrences` | the times at which a schedule is due |
| `watchdog` | reports a blocked event loop |
| `logs` | the log, which never raises |
| `printable_log` | keeps control characters out of the log |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Unpack

import ardiq
from ardiq.host import Host
from ardiq.options import run_settings
from ardiq.version import check_version
from ardiq_worker.logs import Log
from ardiq_worker.printable_log import protect
from ardiq_worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from ardiq.app import Ardiq
    from ardiq.options import RunOptions
    from ardiq_worker.observe import Attempt

check_version("ardiq-worker", "ardiq-client", ardiq.__version__)
__version__ = ardiq.__version__

protect("ardiq.worker")

__all__ = ["Ended", "__version__", "run_app"]


class Ended(NamedTuple):
    """How a run of a worker ended."""

    failed: int
    """Jobs that failed permanently in this run."""
    drained: bool
    """Whether it ended because no job was waiting, running or scheduled in burst mode, rather than
    by a stop.
    """


async def run_app(
    app: Ardiq,
    last_stop: object = None,
    /,
    *,
    ends_process: bool = False,
    observer: Callable[[Attempt], object] | None = None,
    **overrides: Unpack[RunOptions],
) -> Ended:
    """Run a worker of `app` on the running event loop, until it is stopped or, in burst mode,
    drained.

    `app.run` calls this.

    Args:
        app: The app whose tasks and schedules to run.
        last_stop: `Host.last_stop` from when the run was requested; None means now. If the app was
            stopped since then, the run does not start.
        ends_process: Whether the process ends after the run. The run then does not wait for
            coroutines that ignore cancellation. `app.stop` ends such a run and cancellation does
            not, because only application code could cancel it.
        observer: Called on the event loop for each attempt that ends. The worker then logs no
            failures itself.
        **overrides: Replace options of the app for this run.

    Returns:
        How the run ended.

    Raises:
        BrokerError: If Redis cannot be reached at the start, or the engine gives up.
        WorkerExhaustedError: If the process has run out of threads, memory or file descriptors.
        RuntimeError: If the app's worker is already running.
        ValueError: If a schedule never matches, or an override is out of range.
    """
    host = Host(app)
    last_stop = last_stop or host.last_stop
    present = host.runner
    if isinstance(present, Runner) and not present.loop.is_closed():
        raise RuntimeError(
            f"the worker of {app!r} is already running; stop it first, or use another app for another worker"
        )
    settings = run_settings(app, overrides)
    if host.last_stop is not last_stop:
        Log("ardiq.worker").info("the worker of queue %s was told to stop before it started", app.queue_name)
        return Ended(failed=0, drained=False)
    host.runner = None
    runner = Runner(host, settings, ends_process=ends_process, observer=observer)
    host.runner = runner
    if host.last_stop is not last_stop:  # by another thread, which may not have seen the runner
        runner.stop()
    try:
        await runner.run()
        return Ended(runner.failed, runner.drained)
    finally:
        if host.runner is runner:
            host.runner = None

"""The worker of ArdiQ: runs the tasks and schedules of an `ardiq.Ardiq` app.

Nobody calls this package directly: `await app.run()` and the command `ardiq run` do.

`runner` is one run from start to sign-off, `execute` one job from assignment to outcome, `outcome` what an end means,
`threads` the pool for `def` tasks, `schedule` the recurring tasks, `bell` how the engine wakes the loop, `settings`
the options of a run.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ardiq_worker.runner import Runner
from ardiq_worker.settings import settings
from ardiq_worker.version import check_version

if TYPE_CHECKING:
    from ardiq.app import Ardiq

__version__ = check_version()

__all__ = ["__version__", "run_app"]


async def run_app(app: Ardiq, **overrides: Any) -> int:  # the keywords of `settings.settings`, checked there
    """Run a worker of `app` on the running event loop; what `app.run` calls.

    `overrides` take the place of the app's options: `concurrency`, `prefetch`, `sync_concurrency`, `shutdown_grace_s`,
    `burst`. Returns when stopped, or when drained in burst mode: the number of jobs that failed for good. Raises BrokerError when Redis cannot be reached at
    the start or the engine gives up, RuntimeError when the app's worker runs already, ValueError for a schedule that
    never comes true.
    """
    present = app._runner
    if isinstance(present, Runner) and not present.loop.is_closed():
        raise RuntimeError(f"the worker of {app!r} runs already; stop it first, or make another app for another worker")
    app._runner = None
    runner = Runner(app, settings(app, **overrides))
    app._runner = runner
    try:
        await runner.run()
        return runner.failed
    finally:
        app._runner = None

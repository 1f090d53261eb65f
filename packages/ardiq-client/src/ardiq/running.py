"""What an app knows about its own worker: whether it runs, its id, and how to stop it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ardiq.errors import WorkerNotInstalledError

if TYPE_CHECKING:
    from typing import Protocol

    from ardiq.app import Ardiq
    from ardiq.options import RunOptions

    class Runner(Protocol):
        """The worker of an app while it runs. Any thread may call these."""

        def stop(self) -> None:
            """Stop gracefully."""
            ...

        def skip_grace(self) -> None:
            """Stop, and cancel the running tasks at once."""
            ...

        def set_burst(self, burst: bool) -> None:
            """Set whether the run ends when no work is left."""
            ...

        @property
        def worker_id(self) -> str:
            """The id of the current incarnation."""
            ...


class Running:
    """The worker of one app.

    `runner` is the current run; `last_stop` is a new object after each call of `stop`.
    """

    __slots__ = ("_id", "last_stop", "runner")

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.last_stop = object()
        self._id: tuple[int, str] | None = None  # (process id, worker id): a forked child needs a new one

    @property
    def worker_id(self) -> str:
        """The id of the worker; during a run, that of its current incarnation."""
        if (runner := self.runner) is not None:
            return runner.worker_id
        pid = os.getpid()
        if self._id is None or self._id[0] != pid:
            self._id = (pid, _new_worker_id(pid))
        return self._id[1]

    def stop(self) -> None:
        """Stop the current run, even before its first step."""
        # Set this first, then check the runner. A starting run does both in reverse order, so one
        # always sees the other.
        self.last_stop = object()
        if (runner := self.runner) is not None:
            runner.stop()

    def set_burst(self, burst: bool) -> None:
        """Pass a change of the option on to the current run."""
        if (runner := self.runner) is not None:
            runner.set_burst(burst)


async def run(app: Ardiq, last_stop: object, overrides: RunOptions) -> None:
    """Run a worker of `app`, unless the app was stopped after `last_stop`."""
    try:
        from ardiq_worker import run_app
    except ModuleNotFoundError as error:
        if error.name != "ardiq_worker":
            raise
        raise WorkerNotInstalledError(
            "this environment has the client only; to run tasks here: pip install ardiq-worker"
        ) from None
    await run_app(app, last_stop, **overrides)


def _new_worker_id(pid: int) -> str:
    import socket

    return f"{socket.gethostname()}:{pid}:{os.urandom(4).hex()}"

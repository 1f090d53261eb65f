"""One worker in this process: import the application, run it, stop it by signal."""

import asyncio
import json
import logging
import signal
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from ardiq_cli.exits import ExitCode
from ardiq_cli.logs import LogFormat, configure, settle
from ardiq_cli.signals import stop_signals, survive

if TYPE_CHECKING:
    from ardiq import Ardiq


@dataclass(frozen=True)
class WorkerOptions:
    """What the command line says about a worker; None leaves it to the application."""

    target: str
    burst: bool = False
    concurrency: int | None = None
    grace: float | None = None
    verbose: bool = False
    quiet: bool = False
    log_format: LogFormat = LogFormat.CONSOLE

    def to_argument(self) -> str:
        """As one command-line word, for a child process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, word: str) -> "WorkerOptions":
        values: dict[str, Any] = json.loads(word)
        values["log_format"] = LogFormat(values["log_format"])
        return cls(**values)

    def overrides(self) -> dict[str, int | float | bool]:
        """The options of the application that these replace."""
        given = {"concurrency": self.concurrency, "shutdown_grace_s": self.grace, "burst": self.burst or None}
        return {name: value for name, value in given.items() if value is not None}


class Steps(Protocol):
    """What the caller does between the steps of a worker's start."""

    def loaded(self, app: "Ardiq") -> None:
        """The application is imported, nothing is connected."""

    def connected(self) -> None:
        """Redis has answered; the worker starts."""

    def drained(self) -> None:
        """Nothing waits, runs or is due any more, and the worker has ended for that reason."""


class NoSteps:
    """A caller with nothing to do in between."""

    def loaded(self, app: "Ardiq") -> None:
        pass

    def connected(self) -> None:
        pass

    def drained(self) -> None:
        pass


class _Stopped(BaseException):
    """A stop signal has come before the event loop handles them. Not SystemExit: an imported module may raise that."""


def run_worker(options: WorkerOptions, steps: Steps | None = None) -> int:
    """Run the worker until it is told to stop (or, in burst, until the queue is empty); the exit status."""
    configure(options.log_format, verbose=options.verbose, quiet=options.quiet)
    stops = stop_signals()
    try:
        # Until the event loop takes over, a stop signal just ends the process with status 0: no job has been taken.
        # The default action would not do, for as process 1 of a container it ignores SIGTERM.
        for number in stops:
            signal.signal(number, _leave)
        survive()
        # Imported only now, because it takes a while and the signals above may come meanwhile.
        from ardiq_cli.load import load_app

        steps = steps or NoSteps()
        level = logging.root.level
        app = load_app(options.target)
        settle(level=level)
        steps.loaded(app)
        return asyncio.run(_serve(app, options, steps, stops))
    except _Stopped:
        return ExitCode.OK
    finally:
        # What is left to do is bounded, and a second signal must not turn an orderly end into a traceback.
        for number in stops:
            signal.signal(number, signal.SIG_IGN)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped


async def _serve(app: "Ardiq", options: WorkerOptions, steps: Steps, stops: Iterable[signal.Signals]) -> int:
    from ardiq_worker import run_app

    loop = asyncio.get_running_loop()
    running = asyncio.current_task()
    assert running is not None, "a coroutine under asyncio.run has a task"
    asked = 0

    def on_signal() -> None:
        nonlocal asked
        asked += 1
        runner = app._runner  # pyright: ignore[reportPrivateUsage]
        if runner is None:
            running.cancel()
        elif asked == 1:
            app.stop()
        else:
            runner.skip_grace()

    for number in stops:
        loop.add_signal_handler(number, on_signal)
    try:
        # Without Redis a start fails, with status 3; a worker that has started waits for Redis to come back.
        await app.queue_size()
        steps.connected()
        ended = await run_app(app, **options.overrides())
        if ended.drained:
            steps.drained()
        if ended.failed and (options.burst or app.burst):
            logging.getLogger("ardiq.worker").error("jobs failed: %d", ended.failed)
            return ExitCode.FAILED
    except asyncio.CancelledError:
        if asked == 0:
            raise
    finally:
        for number in stops:
            loop.remove_signal_handler(number)
    return ExitCode.OK

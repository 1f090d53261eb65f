"""One worker in this process: import the application, run it, stop it by signal."""

import asyncio
import atexit
import json
import logging
import signal
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from ardiq_cli import ending
from ardiq_cli.exits import ExitCode, Interruption, explain
from ardiq_cli.logs import LogFormat, configure, settle
from ardiq_cli.signals import NEXT_SIGNALS, STOP_SIGNALS, stop_signals, survive
from ardiq_cli.stopping import StopSignals, ignore

if TYPE_CHECKING:
    from ardiq import Ardiq
    from ardiq.options import RunOptions
    from ardiq_worker.logs import Log
    from ardiq_worker.observe import Attempt

_LOOP_STOPPED = "Event loop stopped before Future completed"
"""The message of `run_until_complete` for a loop that was stopped."""

_MOST_ERRORS = 10
"""The loop is broken if it raises this many errors before it has called a single callback."""


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
    announces: bool = True
    """Whether to log what is served. Of several processes, only one does."""
    is_supervised: bool = False
    """Whether another process handles the signals of the terminal, and explains them."""

    def to_argument(self) -> str:
        """Return the options as one command-line word, for a child process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, word: str) -> "WorkerOptions":
        values: dict[str, Any] = json.loads(word)
        values["log_format"] = LogFormat(values["log_format"])
        return cls(**values)

    def overrides(self) -> "RunOptions":
        """Return the options of the application that these replace."""
        return {"concurrency": self.concurrency, "shutdown_grace_s": self.grace, "burst": self.burst or None}


class Steps(Protocol):
    """What the caller does between the steps of a worker's start."""

    @property
    def observer(self) -> "Callable[[Attempt], object] | None":
        """Called for each attempt that ends; None leaves failures to the worker's log."""

    def stop_signals(self) -> tuple[signal.Signals, ...]:
        """Return the signals that stop the worker.

        Called first of all, so it may install handlers for others.
        """
        ...

    def loaded(self, app: "Ardiq") -> None:
        """Called when the application is imported, before anything is connected."""

    def connected(self) -> None:
        """Called when Redis has answered and the worker starts."""

    def drained(self) -> None:
        """Called when the worker has ended because no job is waiting, running or scheduled."""

    def last_step(self) -> None:
        """Called before the process is terminated because application code keeps it from
        exiting.
        """


class NoSteps:
    """A caller with nothing to do in between."""

    observer: "Callable[[Attempt], object] | None" = None

    def stop_signals(self) -> tuple[signal.Signals, ...]:
        return stop_signals()

    def loaded(self, app: "Ardiq") -> None:
        pass

    def connected(self) -> None:
        pass

    def drained(self) -> None:
        pass

    def last_step(self) -> None:
        pass


class _Stopped(Interruption):
    """A stop signal has arrived before the event loop handles these signals.

    Not SystemExit: an imported module may raise that.
    """


class _Leaving:
    """Handles the stop signals until the event loop does."""

    def __init__(self) -> None:
        self.asked = False
        """Whether such a signal has come. Application code may swallow what `leave` raises."""

    def leave(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        raise _Stopped


def run_worker(options: WorkerOptions, steps: Steps | None = None) -> int:
    """Run the worker until it is told to stop or, in burst mode, until the queue is empty.

    Return the exit status.
    """
    configure(options.log_format, verbose=options.verbose, quiet=options.quiet)
    steps = steps or NoSteps()
    stops = steps.stop_signals()
    leaving = _Leaving()
    try:
        # Until the event loop takes over, a stop signal ends the process with status 0: no job has
        # been taken. The default action is not enough: process 1 of a container ignores SIGTERM.
        for number in stops:
            signal.signal(number, leaving.leave)
        atexit.register(ending.leave_abandoned_threads)
        survive()
        # The process that started this one may have held them back until the handlers exist.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        # Imported only now, because it takes a while and the signals above may arrive meanwhile.
        from ardiq_cli.load import load_app

        level = logging.root.level
        app = load_app(options.target)
        if leaving.asked:
            raise _Stopped
        settle(level=level)
        steps.loaded(app)
        return _run(_serve_to_the_end(app, options, steps, stops, leaving))
    except _Stopped:
        ending.begin(ExitCode.OK, last_step=steps.last_step)
        return ExitCode.OK
    except Exception as error:
        if leaving.asked:  # the application has turned it into this error
            ending.begin(ExitCode.OK, last_step=steps.last_step)
            return ExitCode.OK
        message, code = explain(error)
        ending.begin(code, message=message, last_step=steps.last_step)
        raise
    finally:
        # The rest takes a limited time, and a second signal must not turn a graceful end into a
        # traceback.
        ignore(stops)


def _run(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` as `asyncio.run` does, and continue if other code on the loop raises out of it or
    stops it.

    asyncio passes SystemExit and KeyboardInterrupt of any task or callback out of the loop, also
    whatever the application's logging raises when asyncio logs something, and what a signal handler
    raises while the loop waits. Code that awaits that task receives the exception too.
    """
    runner = asyncio.Runner()
    try:
        loop = runner.get_loop()
        serving = loop.create_task(main)
        error: BaseException | None = None
        errors = 0

        def works() -> None:
            nonlocal errors
            errors = 0

        while True:
            try:
                if error is not None:
                    # Inside the `try`: a signal handler of the application may raise here as well.
                    loop.call_soon(works)
                    why, error = _what_happened(error), None
                    _log().error("%s; the worker continues", why)
                return loop.run_until_complete(serving)
            except Interruption:
                raise
            except BaseException as raised:
                if serving.done():
                    return serving.result()  # or raise what it has raised
                errors += 1
                if loop.is_closed() or errors >= _MOST_ERRORS:
                    raise
                error = raised
    finally:
        _close(runner)


def _what_happened(error: BaseException) -> str:
    """Describe what application code has done to the loop."""
    from ardiq_worker.outcome import safe_repr

    if type(error) is RuntimeError and str(error).startswith(_LOOP_STOPPED):
        return "a task or callback of the application stopped the event loop"
    return f"a task, callback or signal handler of the application raised {safe_repr(error)}"


def _close(runner: asyncio.Runner) -> None:
    """Close the loop.

    The exit status is known by now, and what is left of the application does not change it.
    """
    try:
        runner.close()
    except Interruption:
        raise
    except BaseException as error:  # noqa: BLE001 - a task of the application may stop the loop once more, or raise SystemExit
        from ardiq_worker.outcome import safe_repr

        _log().error("the event loop could not be closed cleanly: %s", safe_repr(error))


def _log() -> "Log":
    # Imported here, after the application: it takes a while, and until then a signal ends the
    # process.
    from ardiq_worker.logs import Log

    return Log("ardiq.worker")


async def _serve_to_the_end(
    app: "Ardiq", options: WorkerOptions, steps: Steps, stops: Iterable[signal.Signals], leaving: _Leaving
) -> int:
    """Serve, then limit how long closing the loop may take: it waits for the application's tasks
    and threads.
    """
    try:
        status = await _serve(app, options, steps, stops, leaving)
    except BaseException as error:
        message, code = explain(error) if isinstance(error, Exception) else ("", ExitCode.FAILED)
        ending.begin(code, message=message, last_step=steps.last_step)
        raise
    ending.begin(status, last_step=steps.last_step)
    return status


async def _serve(
    app: "Ardiq", options: WorkerOptions, steps: Steps, stops: Iterable[signal.Signals], leaving: _Leaving
) -> int:
    from ardiq.host import Host
    from ardiq_cli.banner import announce
    from ardiq_worker import run_app

    host = Host(app)
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()
    assert running is not None, "a coroutine under asyncio.run has a task"
    asked = 0

    def on_signal(times: int) -> None:
        nonlocal asked
        asked = times
        runner = host.runner
        if runner is None:
            running.cancel()
        elif asked == 1:
            if not options.is_supervised:
                _log().info(NEXT_SIGNALS)
            app.stop()
        else:
            runner.skip_grace()

    # Active until the process ends, not the run: the cleanup may hang, and the third signal must
    # end that too.
    StopSignals(loop, stops, on_signal)
    if leaving.asked:
        return ExitCode.OK
    try:
        # Without Redis a start fails, with status 3; a worker that has started waits for Redis to
        # come back.
        await app.queue_size()
        if options.announces:
            announce(app, options.target)
        steps.connected()
        ended = await run_app(app, ends_process=True, observer=steps.observer, **options.overrides())
        if ended.drained:
            steps.drained()
        if ended.failed and (options.burst or app.burst):
            _log().error("jobs failed: %d", ended.failed)
            return ExitCode.FAILED
    except asyncio.CancelledError:
        if asked == 0:
            raise
    return ExitCode.OK

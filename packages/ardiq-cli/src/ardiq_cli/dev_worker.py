"""The worker process of `ardiq dev`: `python -m ardiq_cli.dev_worker TETHER DESCRIPTOR OPTIONS`.

It asks its supervisor for the development server once the application is imported, and logs every
attempt.
"""

import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from ardiq_cli import streams
from ardiq_cli.exits import CommandError, boundary
from ardiq_cli.signals import STOP_SIGNALS
from ardiq_cli.stopping import ignore
from ardiq_cli.tether import tie
from ardiq_cli.worker import NoSteps, WorkerOptions, run_worker
from ardiq_cli.worker_process import interpreter

if TYPE_CHECKING:
    from ardiq import Ardiq
    from ardiq_worker.logs import Log
    from ardiq_worker.observe import Attempt

NEEDS_SERVER = b"n"
STARTED = b"s"
DRAINED = b"d"
GO = b"g"
"""The supervisor's only message: the server is ready."""

SERVER_VARIABLE = "ARDIQ_DEV_SERVER"
"""The variable in the worker's environment that contains the URL of the development server.

It is not set if another server is named.
"""


class DevSteps(NoSteps):
    """The worker's side of the conversation with its supervisor."""

    def __init__(self, options: WorkerOptions, descriptor: int, server_url: str | None) -> None:
        self._options = options
        self._app: Ardiq | None = None
        self._supervisor = socket.socket(fileno=descriptor)
        self._supervisor.set_inheritable(False)
        self._server_url = server_url
        self.observer = show

    def stop_signals(self) -> tuple[signal.Signals, ...]:
        # The terminal sends Ctrl-C to every process of the command. The supervisor handles it,
        # and sends SIGTERM to this process.
        ignore(STOP_SIGNALS)
        return (signal.SIGTERM,)

    def loaded(self, app: "Ardiq") -> None:
        self._app = app
        if self._server_url is None:
            return
        if app.redis_url != self._server_url:
            _log().info("the application names its own Redis: no development server is needed")
            return
        self._supervisor.sendall(NEEDS_SERVER)
        if self._supervisor.recv(1) != GO:
            raise CommandError("there is no development server")  # and the supervisor has logged why

    def connected(self) -> None:
        app = self._app
        if app is not None and self._options.announces:
            _log().info("try, in another terminal: %s", ", ".join(_hints(app, self._options.target)))
        elif app is not None:
            # Imported here, as in `_log`.
            from ardiq_cli.banner import announce_tasks

            announce_tasks(app)  # a reload may have changed them
        self._supervisor.sendall(STARTED)

    def drained(self) -> None:
        self._supervisor.sendall(DRAINED)


def _log() -> "Log":
    # Imported here: the supervisor imports this module too, and needs no worker.
    from ardiq_worker.logs import Log

    return Log("ardiq.dev")


def _hints(app: "Ardiq", target: str) -> list[str]:
    """Return commands that show something about this queue."""
    queue = f" --queue {app.queue_name}" if app.queue_name != "default" else ""
    return [f"ardiq inspect queues{queue}", f"ardiq inspect jobs{queue}", f"ardiq drain{queue}", f"ardiq run {target}"]


def show(attempt: "Attempt") -> None:
    """Log one line about an attempt, and after a failure the traceback."""
    # The debugger has its own handler of SIGINT after `continue`.
    ignore(STOP_SIGNALS)

    from ardiq.printable import printable, printable_lines

    job = f"{printable(attempt.task)}[{printable(attempt.job_id)}]"
    count = f"attempt {attempt.number} of {attempt.most}"
    took = duration(attempt.seconds)
    facts: dict[str, Any] = {
        "task": attempt.task,
        "job_id": attempt.job_id,
        "attempt": attempt.number,
        "duration_ms": round(attempt.seconds * 1000),
        "outcome": attempt.outcome,
    }
    if attempt.outcome == "succeeded":
        _log().info("%s succeeded in %s (%s)", job, took, count, facts=facts)
        return
    if attempt.outcome == "aborted":
        _log().info("%s ended after %s (%s): %s", job, took, count, printable(attempt.error), facts=facts)
        return
    last = ", the last" if attempt.number < attempt.most else ""  # `Reject`, or a call that never fits
    delay = duration(attempt.delay_ms / 1000)
    then = {"retry": f", retrying in {delay}", "failed": last, "dead": ", now a dead letter"}
    trace = f"\n{printable_lines(attempt.traceback.rstrip())}" if attempt.traceback else ""
    level = logging.WARNING if attempt.outcome == "retry" else logging.ERROR
    error = printable(attempt.error)
    _log().log(
        level,
        "%s failed after %s (%s%s): %s%s",
        job,
        took,
        count,
        then.get(attempt.outcome, ""),
        error,
        trace,
        facts=facts,
    )


def duration(seconds: float) -> str:
    """`0.0123` → `12 ms`; with three digits at most below an hour."""
    if seconds < 1:
        return f"{seconds * 1000:.{1 if seconds < 0.01 else 0}f} ms"
    return f"{seconds:.{1 if seconds < 100 else 0}f} s"


def command_line(options: WorkerOptions, tether: str, descriptor: int) -> list[str]:
    """Return the command line of the worker; `descriptor` is its socket to the supervisor."""
    return [*interpreter(), "-m", "ardiq_cli.dev_worker", tether, str(descriptor), options.to_argument()]


def main(tether: str, descriptor: str, word: str) -> int:
    streams.prepare()
    tie(tether)
    options = WorkerOptions.from_argument(word)
    sys.argv = ["ardiq", "dev", options.target]
    with boundary(verbose=options.verbose):
        return run_worker(options, DevSteps(options, int(descriptor), os.environ.pop(SERVER_VARIABLE, None)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

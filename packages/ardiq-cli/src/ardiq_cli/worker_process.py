"""The program of one supervised worker process: `python -m ardiq_cli.worker_process TETHER REPORTS OPTIONS`.

It does not go through the command line's parser, whose libraries a worker has no use for but would keep in memory.
"""

import sys
from typing import TYPE_CHECKING

from ardiq_cli.exits import boundary
from ardiq_cli.reports import Reporter
from ardiq_cli.tether import tie
from ardiq_cli.worker import NoSteps, WorkerOptions, run_worker

if TYPE_CHECKING:
    from ardiq import Ardiq


class Report(NoSteps):
    """Reports this process's progress to the supervisor."""

    def __init__(self, descriptor: int) -> None:
        self._reporter = Reporter(descriptor)

    def loaded(self, app: "Ardiq") -> None:
        self._app = app

    def connected(self) -> None:
        app = self._app
        serves = {"url": app.redis_url, "queue": app.queue_name, "worker": app.worker_id}
        self._reporter.started(serves)

    def drained(self) -> None:
        self._reporter.drained()


def command_line(options: WorkerOptions, tether: str, reports: int | None) -> list[str]:
    """Return the command line of one such process; it writes its reports to the descriptor `reports`."""
    descriptor = "-" if reports is None else str(reports)
    return [sys.executable, "-m", "ardiq_cli.worker_process", tether, descriptor, options.to_argument()]


def main(tether: str, descriptor: str, word: str) -> int:
    tie(tether)
    options = WorkerOptions.from_argument(word)
    with boundary(verbose=options.verbose):
        return run_worker(options, None if descriptor == "-" else Report(int(descriptor)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The program of one supervised worker process: `python -m ardiq_cli.worker_process TETHER ANNOUNCE OPTIONS`.

It does not go through the command line's parser, whose libraries a worker has no use for but would keep in memory.
"""

import os
import sys

from ardiq_cli.exits import boundary
from ardiq_cli.tether import tie
from ardiq_cli.worker import NoSteps, WorkerOptions, run_worker


class Announce(NoSteps):
    """Tells the supervisor, on its descriptor, that this process has started."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def connected(self) -> None:
        os.write(self._descriptor, b"\n")
        os.close(self._descriptor)


def command_line(options: WorkerOptions, tether: str, announce: int | None) -> list[str]:
    """What to execute for one such process."""
    descriptor = "-" if announce is None else str(announce)
    return [sys.executable, "-m", "ardiq_cli.worker_process", tether, descriptor, options.to_argument()]


def main(tether: str, descriptor: str, word: str) -> int:
    tie(tether)
    options = WorkerOptions.from_argument(word)
    with boundary(verbose=options.verbose):
        return run_worker(options, None if descriptor == "-" else Announce(int(descriptor)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The program of one worker process: `python -m ardiq_cli.worker_process TETHER REPORTS OPTIONS`.

It does not use the command line's parser: a worker does not need its libraries, but would keep them
in memory. So `ardiq run` becomes this program too (`become`).
"""

import os
import site
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ardiq_cli import streams
from ardiq_cli.exits import boundary
from ardiq_cli.reports import Reporter
from ardiq_cli.signals import PASSED_ON, STOP_SIGNALS, held_back
from ardiq_cli.tether import tie
from ardiq_cli.worker import NoSteps, WorkerOptions, run_worker

if TYPE_CHECKING:
    from ardiq import Ardiq
_NONE = "-"
"""Stands for no tether, or for no descriptor."""


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


def command_line(options: WorkerOptions, tether: str | None, reports: int | None) -> list[str]:
    """Return the command line of one such process; it writes its reports to the descriptor
    `reports`.
    """
    descriptor = _NONE if reports is None else str(reports)
    return [*interpreter(), "-m", "ardiq_cli.worker_process", tether or _NONE, descriptor, options.to_argument()]


def interpreter() -> list[str]:
    """Return the beginning of a command line for this interpreter, with its own options."""
    flags = cast("list[str]", cast(Any, subprocess)._args_from_interpreter_flags())  # as multiprocessing does
    unbuffered = ["-u"] if getattr(sys.stdout, "write_through", False) else []
    # -P: until the application is imported, the current directory is not on the path. A file such
    # as `signal.py` there would hide a module of the standard library.
    return [sys.executable, *flags, *unbuffered, "-P"]


def become(options: WorkerOptions) -> None:
    """Replace this process by a worker that has only what a worker needs in memory, under the same
    process id.

    Returns only if that is impossible.
    """
    if not _is_found_at_start():
        return
    streams.release()
    with held_back({*STOP_SIGNALS, *PASSED_ON}):
        try:
            os.execv(sys.executable, command_line(options, None, None))
        except OSError:  # an embedded interpreter, which has no program
            return


def _is_found_at_start() -> bool:
    """Return whether a new interpreter finds this package.

    A package in a zip file, for example, is found only if some code prepares the path.
    """
    here = Path(__file__).parents[1]
    if sys.flags.no_site:
        return False
    places = [Path(place) for place in (*site.getsitepackages(), site.getusersitepackages())]
    if not sys.flags.ignore_environment:
        places += [Path(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    if here in places:
        return True
    try:
        # An editable installation is a line in a file.
        links = [link.read_text(errors="replace") for place in places for link in place.glob("*.pth")]
    except OSError:
        return False
    return any(str(here) in link.splitlines() for link in links)


def main(tether: str, descriptor: str, word: str) -> int:
    streams.prepare()
    if tether != _NONE:
        tie(tether)
    options = WorkerOptions.from_argument(word)
    # Applications look at this when they are imported.
    sys.argv = ["ardiq", "run", options.target]
    with boundary(verbose=options.verbose):
        return run_worker(options, None if descriptor == _NONE else Report(int(descriptor)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The worker's log, which never raises.

It catches all exceptions from the application's handlers, filters and loggers. The worker logs
while runs start and end and in event loop callbacks. An exception there would lose a job's outcome
or break the worker's loop.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from logging import getLogger
from typing import TYPE_CHECKING

from ardiq.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from ardiq_core import Core

    Facts: TypeAlias = Mapping[str, str | int]

_CALLER = 4
"""Stack frames between the code that logs and the code that reads the stack, so that records name
the right line.
"""


class Log:
    """The logger `name`, whose methods never raise.

    Errors go to standard error, as in `logging`.
    """

    def __init__(self, name: str) -> None:
        self._logger = getLogger(name)

    def enabled(self, level: int) -> bool:
        """Whether lines of `level` are wanted."""
        try:
            return bool(self._logger.isEnabledFor(level))
        except BaseException:  # noqa: BLE001 - the application may have replaced the logger
            _show()
            return False

    def log(self, level: int, message: str, *args: object, facts: Facts | None = None) -> None:
        """Log one line.

        The `facts` become attributes of the record, for formatters and handlers.
        """
        self._write(level, message, args, facts)

    def debug(self, message: str, *args: object, facts: Facts | None = None) -> None:
        """Log one line for developers."""
        self._write(logging.DEBUG, message, args, facts)

    def info(self, message: str, *args: object, facts: Facts | None = None) -> None:
        """Log one line about normal operation."""
        self._write(logging.INFO, message, args, facts)

    def warning(self, message: str, *args: object, facts: Facts | None = None) -> None:
        """Log one line about something unusual."""
        self._write(logging.WARNING, message, args, facts)

    def error(self, message: str, *args: object, facts: Facts | None = None) -> None:
        """Log one line about a failure."""
        self._write(logging.ERROR, message, args, facts)

    def _write(self, level: int, message: str, args: tuple[object, ...], facts: Facts | None) -> None:
        try:
            self._logger.log(level, message, *args, stacklevel=_CALLER - 1, extra=facts)
        except BaseException:  # noqa: BLE001 - a handler may raise anything, and must not affect the job or the worker
            _show()


def forward_logs(core: Core) -> int:
    """Pass the log lines that wait in the core on to the loggers `ardiq.*`.

    Return how many of them say that a job is now a dead letter.
    """
    dead = 0
    for level, suffix, message, subject in core.take_logs():
        facts = None
        if subject is not None:
            job_id, task, attempt, outcome = subject
            facts = job_facts(task, job_id, attempt, outcome)
            dead += outcome == "dead"
        Log(f"ardiq.{suffix}").log(level, "%s", message, facts=facts)
    return dead


def job_facts(task: str, job_id: str, attempt: int, outcome: str, duration_ms: int | None = None) -> Facts:
    """Return the attributes of a log record about a job.

    `outcome` is `succeeded`, `retry`, `failed`, `dead`, `aborted`, `returned` (to the queue) or
    `unknown_task`. An attempt that has not started has no `duration_ms`.
    """
    facts: dict[str, str | int] = {
        "task": printable(task),
        "job_id": printable(job_id),
        "attempt": attempt,
        "outcome": outcome,
    }
    if duration_ms is not None:
        facts["duration_ms"] = duration_ms
    return facts


def _show() -> None:
    if logging.raiseExceptions and sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - under pythonw
        with suppress(BaseException):
            traceback.print_exc()

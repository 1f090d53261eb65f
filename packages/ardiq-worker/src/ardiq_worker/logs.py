"""The worker's log. Whatever a handler, a filter or a logger of the application raises, it stays in here.

A line of the log is written while runs start and end and on callbacks of the event loop, where an exception would cost
a job its outcome or the worker its loop.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from logging import getLogger
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ardiq_core import Core

_CALLER = 4
"""How far the call to `Log.info` is from the call that reads the stack, so that records name the line that logs."""


class Log:
    """The logger `name`, whose methods never raise. What goes wrong is shown on standard error, as `logging` does."""

    def __init__(self, name: str) -> None:
        self._logger = getLogger(name)

    def enabled(self, level: int) -> bool:
        """Whether lines of `level` are wanted."""
        try:
            return bool(self._logger.isEnabledFor(level))
        except BaseException:  # noqa: BLE001 - the application may have put a logger of its own in this place
            _show()
            return False

    def log(self, level: int, message: str, *args: object) -> None:
        """Log one line."""
        self._write(level, message, args)

    def debug(self, message: str, *args: object) -> None:
        """Log one line for developers."""
        self._write(logging.DEBUG, message, args)

    def info(self, message: str, *args: object) -> None:
        """Log one line about the usual course of things."""
        self._write(logging.INFO, message, args)

    def warning(self, message: str, *args: object) -> None:
        """Log one line about something unusual."""
        self._write(logging.WARNING, message, args)

    def error(self, message: str, *args: object) -> None:
        """Log one line about a failure."""
        self._write(logging.ERROR, message, args)

    def _write(self, level: int, message: str, args: tuple[object, ...]) -> None:
        try:
            self._logger.log(level, message, *args, stacklevel=_CALLER - 1)
        except BaseException:  # noqa: BLE001 - a handler may raise anything, and none of it is the job's or the worker's
            _show()


def forward_logs(core: Core) -> None:
    """Give what waits in the core to the loggers `ardiq.*`."""
    for level, suffix, message in core.take_logs():
        Log(f"ardiq.{suffix}").log(level, "%s", message)


def _show() -> None:
    if logging.raiseExceptions and sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - under pythonw
        with suppress(BaseException):
            traceback.print_exc()

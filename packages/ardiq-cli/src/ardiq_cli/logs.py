"""Logging of the processes that the command line starts: standard error, for people or for machines.

An application that configures logging itself has its way: `configure` comes before its import, `settle` after it.
"""

import logging
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO, cast

from ardiq_cli.json_text import json_text


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": os.getpid(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json_text(line)


class FallbackHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error what no handler of the application takes."""

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_taken(record.name):
            super().emit(record)


def configure(log_format: LogFormat, *, verbose: bool = False, quiet: bool = False) -> None:
    """Send the log to standard error, until `settle` has seen what the application wants.

    Nothing is installed at the root: `logging.basicConfig` in the application would find it there and do nothing.
    `verbose` adds ardiq's debug lines, `quiet` leaves warnings and errors.
    """
    handler = FallbackHandler(sys.stderr)
    if log_format is LogFormat.JSON:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s", datefmt="%H:%M:%S")
        )
    # Python's own handler of this kind writes warnings only, and without time or level.
    logging.lastResort = handler
    logging.root.setLevel(logging.WARNING if quiet else logging.INFO)
    if verbose:
        logging.getLogger("ardiq").setLevel(logging.DEBUG)
    elif quiet:
        logging.getLogger("ardiq").setLevel(logging.WARNING)


def settle(*, level: int | None = None) -> None:
    """Call it when the application is imported: what it has configured stays, and the rest is ours.

    `level` is that of the root before the import.
    """
    root = logging.root
    if len(root.handlers) == 1 and root.level == level and _is_implicit(root.handlers[0]):
        root.removeHandler(root.handlers[0])
    if not root.handlers and logging.lastResort is not None:
        # From now on a bare `logging.info()` in a task must not install a handler of its own.
        root.addHandler(logging.lastResort)
    for name, logger in root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and f"{name}.".startswith("ardiq."):
            # `dictConfig` disables all loggers that exist, and so those that happened to be imported before it ran.
            logger.disabled = False


def _is_implicit(handler: logging.Handler) -> bool:
    """Whether it may come from a bare `logging.info()` during the import, which calls `basicConfig()`."""
    if type(handler) is not logging.StreamHandler:
        return False
    formatter: logging.Formatter | None = handler.formatter
    form: object = getattr(formatter, "_fmt", None)
    stream: object = getattr(cast(object, handler), "stream", None)
    return form == logging.BASIC_FORMAT and stream is sys.stderr


def _is_taken(name: str) -> bool:
    """Whether a handler of the application gets the records of the logger `name`."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(not isinstance(handler, FallbackHandler | logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False

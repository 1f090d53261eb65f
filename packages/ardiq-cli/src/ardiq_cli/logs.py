"""Logging in the processes that the command line starts: to standard error, as text or as JSON.

An application's own logging configuration takes precedence: call `configure` before its import and
`settle` after it.
"""

import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO, cast

from ardiq_cli.json_text import json_text


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


_OF_EVERY_RECORD = {*vars(logging.LogRecord("", 0, "", 0, "", None, None)), "message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line, with whatever the caller passed as `extra`, and the job in which
    the line was logged.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": os.getpid(),
            "message": record.getMessage(),
        }
        line |= _job_of_this_context()
        for name, value in vars(record).items():
            if name not in _OF_EVERY_RECORD:
                line[f"extra.{name}" if name in _OWN else name] = value
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json_text(line)


_OWN = ("time", "level", "logger", "pid", "message", "traceback", "stack")
"""The fields of a line; what a caller passes as `extra` under such a name is renamed."""


def _job_of_this_context() -> dict[str, object]:
    """Return the job that the calling code belongs to: a handler formats a record where it is
    logged.
    """
    # Not imported: the supervisor logs too, and has no use for the package.
    context = sys.modules.get("ardiq.context")
    job = context.current_task() if context is not None else None
    return {} if job is None else {"task": job.name, "job_id": job.task_id, "attempt": job.tries}


class FallbackHandler(logging.StreamHandler[TextIO]):
    """Writes records that no handler of the application receives to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_taken(record.name):
            super().emit(record)


def configure(log_format: LogFormat, *, verbose: bool = False, quiet: bool = False) -> None:
    """Send the log to standard error, until `settle` has checked the application's configuration.

    The root logger gets no handler: `logging.basicConfig` in the application would find it and do
    nothing. `verbose` adds ardiq's debug lines, `quiet` keeps only warnings and errors.
    """
    if not isinstance(logging.basicConfig, _BasicConfig):
        logging.basicConfig = _BasicConfig(logging.basicConfig)
    handler = FallbackHandler(sys.stderr)
    if log_format is LogFormat.JSON:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s", datefmt="%H:%M:%S")
        )
    # Python's default writes only warnings, without time or level.
    logging.lastResort = handler
    logging.root.setLevel(logging.WARNING if quiet else logging.INFO)
    if verbose:
        logging.getLogger("ardiq").setLevel(logging.DEBUG)
    elif quiet:
        logging.getLogger("ardiq").setLevel(logging.WARNING)


def settle(*, level: int | None = None) -> None:
    """Keep the application's configuration and handle the remaining records.

    Call it after the import.

    `level` is the root logger's level before the import.
    """
    root = logging.root
    is_explicit = isinstance(logging.basicConfig, _BasicConfig) and logging.basicConfig.is_explicit
    if isinstance(logging.basicConfig, _BasicConfig):
        logging.basicConfig = logging.basicConfig.original
    if not is_explicit and len(root.handlers) == 1 and root.level == level and _is_implicit(root.handlers[0]):
        root.removeHandler(root.handlers[0])
    if not root.handlers and logging.lastResort is not None:
        # From now on a bare `logging.info()` in a task must not install a handler.
        root.addHandler(logging.lastResort)
    for name, logger in root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and f"{name}.".startswith("ardiq."):
            # `dictConfig` disables all existing loggers, including those imported before it ran.
            logger.disabled = False


class _BasicConfig:
    """`logging.basicConfig`, and whether the application has called it with arguments.

    `logging.info()` has none.
    """

    def __init__(self, original: Callable[..., None]) -> None:
        self.original = original
        self.is_explicit = False

    def __call__(self, **options: Any) -> None:
        self.is_explicit = self.is_explicit or bool(options)
        self.original(**options)


def _is_implicit(handler: logging.Handler) -> bool:
    """Whether a bare `logging.info()` during the import, which calls `basicConfig()`, may have
    added the handler.
    """
    if type(handler) is not logging.StreamHandler or handler.filters or handler.level != logging.NOTSET:
        return False
    formatter: logging.Formatter | None = handler.formatter
    form: object = getattr(formatter, "_fmt", None)
    stream: object = getattr(cast(object, handler), "stream", None)
    return form == logging.BASIC_FORMAT and stream is sys.stderr


def _is_taken(name: str) -> bool:
    """Whether a handler of the application receives the records of the logger `name`."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(not isinstance(handler, FallbackHandler | logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False

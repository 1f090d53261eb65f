"""Logging of the processes that the command line starts: standard error, for people or for machines."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum


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
        return json.dumps(line, ensure_ascii=False)


def configure(log_format: LogFormat, *, verbose: bool = False, quiet: bool = False) -> None:
    """Send the log to standard error.

    `verbose` adds ardiq's debug lines, `quiet` leaves warnings and errors. Call it before the application is imported,
    so that the application may still replace it.
    """
    handler = logging.StreamHandler(sys.stderr)
    if log_format is LogFormat.JSON:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s", datefmt="%H:%M:%S")
        )
    level = logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("ardiq").setLevel(logging.DEBUG if verbose else level)

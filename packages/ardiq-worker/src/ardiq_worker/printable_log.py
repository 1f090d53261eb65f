"""Makes log lines safe to show: names and ids from Redis could contain line breaks that forge other
lines.
"""

from __future__ import annotations

from logging import Filter, LogRecord, getLogger

from ardiq.printable import printable


class PrintableArguments(Filter):
    """Escapes the arguments of each record. It drops no records."""

    def filter(self, record: LogRecord) -> bool:
        """Escape the arguments of a record that is about to be logged."""
        if isinstance(record.args, tuple):
            record.args = tuple(map(_printable, record.args))
        return True


def protect(logger: str) -> None:
    """Escape all lines of `logger`. The engine's lines arrive escaped."""
    found = getLogger(logger)
    if not any(isinstance(known, PrintableArguments) for known in found.filters):
        found.addFilter(PrintableArguments())


def _printable(argument: object) -> object:
    if isinstance(argument, int | float):
        return argument
    try:
        return printable(str(argument))
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return f"<{type(argument).__name__}>"

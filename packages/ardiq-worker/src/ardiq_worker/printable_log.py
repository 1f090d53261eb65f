"""Log lines that are safe to show: names and ids come from Redis, and with line breaks in them could forge other lines."""

from __future__ import annotations

from logging import Filter, LogRecord, getLogger

from ardiq.printable import printable


class PrintableArguments(Filter):
    """Makes all that a line is filled in with printable. It only changes records, and lets each of them pass."""

    def filter(self, record: LogRecord) -> bool:
        """Called by `logging` for each line that is wanted."""
        if isinstance(record.args, tuple):
            record.args = tuple(map(_printable, record.args))
        return True


def protect(logger: str) -> None:
    """Have all lines of `logger` made printable. The engine's lines are so when they arrive."""
    found = getLogger(logger)
    if not any(isinstance(known, PrintableArguments) for known in found.filters):
        found.addFilter(PrintableArguments())


def _printable(argument: object) -> object:
    if isinstance(argument, int | float):
        return argument
    try:
        return printable(str(argument))
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything
        return f"<{type(argument).__name__}>"

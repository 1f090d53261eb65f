"""Passes the engine's log lines to the loggers `ardiq.*`.

The engine logs only when something is wrong. So the bridges load this module, and with it
`logging`, when the first line arrives.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable


def forward(lines: Iterable[tuple[int, str, str, object]]) -> None:
    """Log lines, each with its level, the name of its logger below `ardiq.`, and its message.

    The worker logs the lines about its jobs itself.

    Errors of handlers go to standard error.
    """
    for level, suffix, message, _ in lines:
        try:
            logging.getLogger(f"ardiq.{suffix}").log(level, "%s", message)
        except Exception:  # noqa: BLE001 - the application's handlers must not disturb the caller that waits for an answer
            if logging.raiseExceptions and sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - under pythonw
                traceback.print_exc()

"""Passes the engine's log lines to the loggers `ardiq.*`.

The engine has something to say only when something is wrong, so the bridges load this module, and
with it `logging`, when the first line arrives.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable


def forward(lines: Iterable[tuple[int, str, str, object]]) -> None:
    """Log lines: their level, the logger's name below `ardiq.`, and the message. The worker itself
    logs those about its jobs.

    Errors of handlers go to standard error.
    """
    for level, suffix, message, _ in lines:
        try:
            logging.getLogger(f"ardiq.{suffix}").log(level, "%s", message)
        except Exception:  # noqa: BLE001 - the application's handlers must not disturb the caller that waits for an answer
            if logging.raiseExceptions and sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - under pythonw
                traceback.print_exc()

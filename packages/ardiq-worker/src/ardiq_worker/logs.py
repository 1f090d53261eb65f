"""The engine's log lines, passed on to `logging`."""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ardiq_core import Core


def forward_logs(core: Core) -> None:
    """Give what waits in the core to the loggers `ardiq.*`."""
    for level, suffix, message in core.take_logs():
        getLogger(f"ardiq.{suffix}").log(level, "%s", message)

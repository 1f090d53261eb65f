"""The engine of ArdiQ: everything that talks to Redis, written in Rust.

Nobody imports this package directly: `ardiq` is the client, `ardiq_worker` the worker.
"""

from ardiq_core._core import (
    DEAD,
    FAILURE,
    HAND_BACK,
    RETRY,
    SUCCESS,
    UNKNOWN_TASK,
    Core,
    Port,
    Worker,
    __version__,
    check_url,
    interpreter_ends,
    protocol,
)
from ardiq_core.errors import ArdiqError, BrokerError, ResultNotFoundError

__all__ = [
    "DEAD",
    "FAILURE",
    "HAND_BACK",
    "RETRY",
    "SUCCESS",
    "UNKNOWN_TASK",
    "ArdiqError",
    "BrokerError",
    "Core",
    "Port",
    "ResultNotFoundError",
    "Worker",
    "__version__",
    "check_url",
    "interpreter_ends",
    "protocol",
]

"""The engine of ArdiQ, written in Rust: all communication with Redis.

Applications do not import this package. They import `ardiq`, the client, or `ardiq_worker`, the
worker.
"""

from ardiq_core._core import (
    ABORTED,
    DEAD,
    FAILURE,
    HAND_BACK,
    RETRY,
    SUCCESS,
    UNKNOWN_TASK,
    Core,
    Mailbox,
    Worker,
    __version__,
    check_url,
    interpreter_ends,
    protocol,
)
from ardiq_core.errors import (
    ArdiqError,
    BrokerClosedError,
    BrokerDataError,
    BrokerError,
    BrokerRefusedError,
    BrokerUnfitError,
    BrokerUnreachableError,
    ResultNotFoundError,
    StaleRunError,
    SystemResourceError,
)

__all__ = [
    "ABORTED",
    "DEAD",
    "FAILURE",
    "HAND_BACK",
    "RETRY",
    "SUCCESS",
    "UNKNOWN_TASK",
    "ArdiqError",
    "BrokerClosedError",
    "BrokerDataError",
    "BrokerError",
    "BrokerRefusedError",
    "BrokerUnfitError",
    "BrokerUnreachableError",
    "Core",
    "Mailbox",
    "ResultNotFoundError",
    "StaleRunError",
    "SystemResourceError",
    "Worker",
    "__version__",
    "check_url",
    "interpreter_ends",
    "protocol",
]

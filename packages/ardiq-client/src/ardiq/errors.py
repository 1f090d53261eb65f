"""Every exception class that ArdiQ defines for its callers. Each message says what to do next.

Tasks raise `Retry`, `Reject` and `Abort` themselves; those are in `ardiq.control`.
"""

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
    "ArdiqError",
    "BrokerClosedError",
    "BrokerDataError",
    "BrokerError",
    "BrokerRefusedError",
    "BrokerUnfitError",
    "BrokerUnreachableError",
    "InvalidIdError",
    "PayloadTooLargeError",
    "ResultNotFoundError",
    "ScheduleNotFoundError",
    "SerializationError",
    "StaleRunError",
    "SystemResourceError",
    "VersionMismatchError",
    "WorkerExhaustedError",
    "WorkerNotInstalledError",
]


class SerializationError(ArdiqError, TypeError):
    """An argument or a return value cannot be encoded, or a stored value cannot be decoded."""


class PayloadTooLargeError(ArdiqError, ValueError):
    """The encoded arguments of a job, or an encoded checkpoint, are larger than
    `max_payload_bytes`, or the arguments are too large for a schedule.
    """


class ScheduleNotFoundError(ArdiqError, LookupError):
    """There is no schedule with this name in the queue."""


class InvalidIdError(ArdiqError, TypeError, ValueError):
    """A job id is not a string, has the wrong length, or contains spaces or control characters."""


class WorkerNotInstalledError(ArdiqError, ImportError):
    """`app.run()`, and the times of cron expressions, need the package `ardiq-worker`, which is not
    installed here.
    """


class WorkerExhaustedError(ArdiqError, RuntimeError):
    """`app.run()` has stopped because its process has run out of threads, memory or file
    descriptors.
    """


class VersionMismatchError(ArdiqError, ImportError):
    """The installed ArdiQ distributions have different versions."""

"""Every exception of ArdiQ, in one place. Each message says what to do next."""

from ardiq_core.errors import ArdiqError, BrokerError, ResultNotFoundError

__all__ = [
    "ArdiqError",
    "BrokerError",
    "InvalidIdError",
    "PayloadTooLargeError",
    "ResultNotFoundError",
    "SerializationError",
    "VersionMismatchError",
    "WorkerExhaustedError",
    "WorkerNotInstalledError",
]


class SerializationError(ArdiqError, TypeError):
    """An argument or a value cannot be encoded, or what was stored cannot be decoded."""


class PayloadTooLargeError(ArdiqError, ValueError):
    """The encoded arguments are larger than `max_payload_bytes`."""


class InvalidIdError(ArdiqError, TypeError, ValueError):
    """A job id that cannot be one: not a string, of the wrong length, or with spaces or control characters."""


class WorkerNotInstalledError(ArdiqError, ImportError):
    """`app.run()` needs the package `ardiq-worker`, which is not installed here."""


class WorkerExhaustedError(ArdiqError, RuntimeError):
    """`app.run()` has stopped because its process has run out of threads, memory or file descriptors."""


class VersionMismatchError(ArdiqError, ImportError):
    """The installed ArdiQ distributions are not of one version."""

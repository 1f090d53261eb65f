"""The exceptions that the native module raises on its own account."""


class ArdiqError(Exception):
    """The base of every error that is ArdiQ's own."""


class BrokerError(ArdiqError, RuntimeError):
    """Redis could not be reached, or refused the request; the message says which and what to look at."""


class ResultNotFoundError(ArdiqError, TimeoutError):
    """A call waited for a result that cannot arrive: the job is unknown, or its result is not stored."""

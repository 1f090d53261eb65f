"""The base exceptions, which the native module raises and the other packages extend."""


class ArdiqError(Exception):
    """The base class of ArdiQ's own errors."""


class BrokerError(ArdiqError, RuntimeError):
    """Redis cannot be reached, or refused the request.

    The message says which, and what to check.
    """


class ResultNotFoundError(ArdiqError, TimeoutError):
    """A call waited for a result that cannot arrive: the job is unknown, or its result is not
    stored.
    """

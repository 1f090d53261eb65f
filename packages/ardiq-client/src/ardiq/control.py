"""Exceptions that a task raises to retry, fail or abort its job."""

from typing import Never

from ardiq.checks import LONGEST_MS, check_int, check_known


class Retry(Exception):
    """Raise this inside a task to run the job again later. It spends one of the task's retries.

    Args:
        message: The reason. It appears in the value of the failed result if no retry is left.
        delay_ms: Milliseconds until the next attempt. 0 means at once; None means the task's usual
            backoff.

    Raises:
        ValueError: If `delay_ms` is negative or longer than a hundred years.
        TypeError: If `delay_ms` is not an int, or an option is unknown.

    Example:
        ```python
        raise Retry("the bank is closed", delay_ms=60_000)
        ```
    """

    def __init__(self, message: str = "", *, delay_ms: int | None = None, **unknown: Never) -> None:
        if unknown:
            check_known("Retry()", unknown, ("message", "delay_ms"))
        super().__init__(message)
        self.message = message
        self.delay_ms = None if delay_ms is None else check_int("delay_ms", delay_ms, 0, LONGEST_MS)


class Reject(Exception):
    """Raise this inside a task to fail its job at once, even if retries remain.

    Args:
        message: The reason. It appears in the value of the failed result.

    Example:
        ```python
        raise Reject("no such customer")
        ```
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class Abort(Exception):
    """Raise this inside a task to end its job as aborted, even if retries remain.

    The job ends as if `job.abort()` had been called: its result has `aborted=True`, and it is not
    logged as a failure.

    Args:
        message: The reason. It appears in the value of the result, after `aborted: `.

    Example:
        ```python
        raise Abort("the order was cancelled")
        ```
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

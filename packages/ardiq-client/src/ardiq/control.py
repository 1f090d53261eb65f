"""What a task raises to decide itself what becomes of its job."""

from ardiq.checks import LONGEST_MS, whole


class Retry(Exception):
    """Raise inside a task to be run again later; it spends one of the task's retries.

    `delay_ms` is the wait before the next attempt; 0 means at once, None the task's usual backoff.

        raise Retry("the bank is closed", delay_ms=60_000)
    """

    def __init__(self, message: str = "", *, delay_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.delay_ms = None if delay_ms is None else whole("delay_ms", delay_ms, 0, LONGEST_MS)


class Reject(Exception):
    """Raise inside a task to fail its job at once, whatever retries remain.

    raise Reject("no such customer")
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

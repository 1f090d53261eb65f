"""The native module: what Python may ask of the engine, and in which shapes.

Bytes, numbers and short strings cross this seam, never Python callbacks. All times are epoch milliseconds by the Redis clock.
"""

from collections.abc import Sequence
from typing import Final, final

from ardiq_core.shapes import Assignment, Event, Notice, Outcome, Submission

__all__ = [
    "DEAD",
    "FAILURE",
    "HAND_BACK",
    "RETRY",
    "SUCCESS",
    "UNKNOWN_TASK",
    "Core",
    "Port",
    "Worker",
    "__version__",
    "check_url",
    "interpreter_ends",
    "protocol",
]

__version__: Final[str]

SUCCESS: Final[int]
FAILURE: Final[int]
RETRY: Final[int]
DEAD: Final[int]
HAND_BACK: Final[int]
UNKNOWN_TASK: Final[int]

def check_url(url: str) -> None:
    """Raise ValueError, never showing the password, unless `url` is one that the engine can use."""

def interpreter_ends() -> None:
    """The interpreter is about to end: other threads that are blocked in a mailbox stay there, since nobody waits for them."""

def protocol() -> dict[str, list[dict[str, str]]]:
    """The protocol as data: rows of text by column, in the tables keys, records, forms, states, transitions, scripts, versions."""

@final
class Core:
    """One queue as seen from one process: its connection, its subscription, its background thread."""

    def __new__(
        cls,
        *,
        url: str,
        queue: str,
        lanes: Sequence[str],
        connect_timeout_ms: int = 5000,
        allow_eviction: bool = False,
    ) -> Core: ...
    @property
    def closed(self) -> bool: ...
    def port(self) -> Port:
        """A new mailbox for one event loop or one thread."""

    def take_logs(self) -> list[tuple[int, str, str]]:
        """Waiting log lines: level as in `logging`, logger suffix, message."""

    def close(self) -> None:
        """End all connections and join the background thread; waits 2 s at most, may be called twice."""

@final
class Port:
    """A mailbox: requests go in without blocking, answers are drained."""

    def fileno(self) -> int:
        """Readable when `drain` has something."""

    def drain(self) -> list[Event]: ...
    def block(self, timeout_ms: int) -> list[Event]:
        """Wait without the GIL until something has arrived, then drain; an empty list after `timeout_ms`."""

    def enqueue(self, ticket: int, jobs: list[Submission]) -> None:
        """Answer: list[str], the job ids in order (of the existing job where one was found).

        If only some jobs were accepted, a tuple with an exception in place of each id that is missing.
        """

    def fire(self, ticket: int, schedule: str, fire_ms: int, job: Submission) -> None:
        """Enqueue one occurrence of a schedule unless it, or a later one, has been fired.

        Answer: int, 1 if this call fired it, 2 if so after the server's clock was set back, 0 if not.
        """

    def clock(self, ticket: int) -> None:
        """Answer: int, the Redis time in epoch ms."""

    def result(self, ticket: int, job_id: str, timeout_ms: int | None) -> None:
        """Answer: ResultRecord; None if there is none yet (timeout None) or none arrived in time.

        With a timeout, ResultNotFoundError as soon as no result can arrive.
        """

    def lookup(self, ticket: int, job_ids: Sequence[str]) -> None:
        """Answer: list[JobRecord], in order."""

    def forget(self, ticket: int) -> None:
        """The caller has given up: drop the wait behind `ticket`."""

    def depth(self, ticket: int) -> None:
        """Answer: int, the jobs that wait to start (ready and scheduled)."""

    def queues(self, ticket: int) -> None:
        """Answer: list[str], names of all queues that this server has seen."""

    def inspect(self, ticket: int) -> None:
        """Answer: dict, the queue in numbers.

        Keys: name, lanes [{lane, waiting, held}], scheduled, running, dead, unfinished, waiting,
        workers [{id, host, pid, concurrency, prefetch, held, running, started_ms, lease_left_ms, version}], now_ms.
        `waiting` = ready + scheduled, not started; `unfinished` = waiting + running.
        """

    def jobs(self, ticket: int, state: str, limit: int) -> None:
        """Answer: list[JobRecord] for state queued, scheduled, running; for `dead`: list[tuple[JobRecord, reason]]."""

@final
class Worker:
    """The engine that fetches, hands out and settles for one event loop."""

    def __new__(
        cls,
        core: Core,
        *,
        worker_id: str,
        concurrency: int,
        prefetch: int,
        lease_ms: int,
        result_ttl_ms: int,
        burst: bool,
    ) -> Worker: ...
    def start(self) -> None: ...
    @property
    def worker_id(self) -> str:
        """The present incarnation: changes after a lost lease."""

    def fileno(self) -> int:
        """Readable when `take` has something."""

    def take(self) -> list[Notice]:
        """Return new notices. `fileno` becomes readable again when there are more, or when a job can start."""

    def next(self) -> Assignment | None:
        """Return the next run, if there is one and a free slot. It starts now, unless its task is deferred."""

    def pulled(self) -> None:
        """Call after the last `next` of a series, unless `complete` follows. Long runs are then recorded."""

    def defer(self, tasks: Sequence[str]) -> None:
        """Make runs of these tasks start with `begin`, for example when a thread is free, instead of when pulled."""

    def begin(self, slot: int) -> bool:
        """Start a deferred run. If this returns False, it must not start: it is over and has no outcome."""

    def complete(self, outcomes: list[Outcome]) -> None:
        """Submit the outcomes of finished runs and free their slots."""

    def set_burst(self, burst: bool) -> None: ...
    def begin_stop(self) -> None:
        """Fetch no more and give back what has not started; running work goes on. Twice is harmless."""

    def finish_stop(self) -> None:
        """Call when all runs are completed: settle, sign off, then the notice `stopped`."""

    def now_ms(self) -> int:
        """The Redis time, by the last answer and the monotonic clock since."""

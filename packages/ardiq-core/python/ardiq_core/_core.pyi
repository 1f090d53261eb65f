"""The native module: the interface between Python and the engine.

Only bytes, numbers and short strings cross it. The engine never calls Python. All times are epoch
milliseconds by the Redis clock.
"""

from collections.abc import Sequence
from typing import Final, final

from ardiq_core.shapes import Assignment, Edge, Event, LogLine, Outcome, Plan, Reply, Submission

__all__ = [
    "ABORTED",
    "DEAD",
    "FAILURE",
    "HAND_BACK",
    "RETRY",
    "SUCCESS",
    "UNKNOWN_TASK",
    "Core",
    "Mailbox",
    "Worker",
    "__version__",
    "check_url",
    "interpreter_ends",
    "protocol",
]

__version__: Final[str]

ABORTED: Final[int]
SUCCESS: Final[int]
FAILURE: Final[int]
RETRY: Final[int]
DEAD: Final[int]
HAND_BACK: Final[int]
UNKNOWN_TASK: Final[int]

def check_url(url: str) -> None:
    """Check that the engine can use `url`.

    Raises:
        ValueError: The URL cannot be used. The message never contains the password.
    """

def interpreter_ends() -> None:
    """Announce the end of the interpreter.

    Other threads that are blocked in a mailbox stay blocked: they are daemon threads, and nothing
    waits for them.
    """

def protocol() -> dict[str, list[dict[str, str]]]:
    """Return the protocol as data.

    Returns:
        The tables keys, records, forms, states, transitions, scripts and versions. Each is a list
        of rows, and each row a dict of text by column.
    """

@final
class Core:
    """One queue as seen from one process: its connections, its subscription, and the I/O thread."""

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
    def mailbox(self, *, with_logs: bool = False) -> Mailbox:
        """Return a new mailbox, for one event loop or one thread.

        With `with_logs`, the mailbox also takes the log lines of the engine. They come as an answer
        with the id -1, in the form that `take_logs` documents.
        """

    def take_logs(self) -> list[LogLine]:
        """Take the log lines of the engine."""

    def close(self) -> None:
        """End all connections, and join the I/O thread if no other core uses it.

        This takes 2 s at most. Closing twice is harmless.
        """

@final
class Mailbox:
    """Sends requests without blocking, and holds their replies until they are taken.

    The caller chooses the id of each request, from 0. The reply has the same id.
    """

    def fileno(self) -> int:
        """Return a descriptor that is readable while replies are waiting."""

    def drain(self) -> list[Reply]:
        """Take all replies."""

    def block(self, timeout_ms: int) -> list[Reply]:
        """Wait for a reply without holding the GIL, then take all.

        Returns an empty list after `timeout_ms`.
        """

    def enqueue(self, request_id: int, jobs: list[Submission]) -> None:
        """Enqueue jobs.

        The answer is `list[str]`: the job ids, in order. If an unfinished job holds the identity of
        a new one, it is the id of that job. If only some jobs were accepted, the answer is a tuple
        with an exception for each other job.
        """

    def link(self, request_id: int, jobs: list[tuple[Submission, str | None]], edges: list[Edge]) -> None:
        """Enqueue jobs that depend on each other, or on jobs of the queue.

        Each has the mode of its inputs: a letter for the worker that runs it, or None.

        The answer is `list[str]`: the job ids, in order. The answer is a ValueError, and nothing is
        enqueued, if a parent is unknown or its result is gone.
        """

    def schedule(self, request_id: int, plan: Plan) -> None:
        """Create a dynamic schedule, or replace the one of this name.

        The answer is an int: 1, or 0 if the name belongs to a static schedule.
        """

    def unschedule(self, request_id: int, name: str) -> None:
        """Remove a dynamic schedule, or a static one that is no longer in the code.

        The answer is an int: 1 if it was removed, 0 if there is no such schedule, -1 if it is in
        the code.
        """

    def pause(self, request_id: int, name: str, pauses: bool) -> None:
        """Pause a schedule, or resume it.

        The answer is an int: 1, or 0 if there is no such schedule.
        """

    def declare(self, request_id: int, plans: list[Plan]) -> None:
        """Publish static schedules.

        The answer is `list[str]`: the names of dynamic schedules that they have replaced.
        """

    def fire(self, request_id: int, plan: Plan, revision: bytes, fire_ms: int, gap_ms: int) -> None:
        """Enqueue one occurrence of a schedule unless it, or a later one, was fired.

        The revision of a static schedule is empty. The next occurrence is `gap_ms` later.

        The answer is an int: 1 if this call fired it, 2 if it did so after the server's clock was
        set back, 3 if the schedule is paused, was changed, or is gone, 0 if it was not fired for
        another reason.
        """

    def fire_now(self, request_id: int, name: str) -> None:
        """Enqueue a job of a schedule now, whether it is paused or not.

        The answer is `list[str]`: the id of the job, or nothing if there is no such schedule.
        """

    def watch(self, request_id: int, revision: bytes | None) -> None:
        """Wait until a dynamic schedule has changed since this revision of an `Agenda`; None does
        not wait.

        The answer is an `Agenda`, without the last jobs.
        """

    def schedules(self, request_id: int, name: str | None) -> None:
        """Read all schedules, or one. The answer is an `Agenda`."""

    def clock(self, request_id: int) -> None:
        """Read the Redis time. The answer is an int, in epoch ms."""

    def result(self, request_id: int, job_id: str, timeout_ms: int | None) -> None:
        """Read a result, or wait for it if there is a timeout.

        The answer is a `ResultRecord`, or None if there is none (in time). If no result can arrive,
        a request with a timeout fails at once with `ResultNotFoundError`.
        """

    def lookup(self, request_id: int, job_ids: Sequence[str]) -> None:
        """Read the state of jobs. The answer is `list[JobRecord]`, in order."""

    def progress(self, request_id: int, job_id: str) -> None:
        """Read the progress of an unfinished job. The answer is a `ProgressRecord`, or None."""

    def follow(self, request_id: int, job_id: str) -> None:
        """Follow a job until it has ended.

        There are several answers, each an `EventRecord`, up to the last event or an exception.
        """

    def checkpoint(self, request_id: int, worker: Worker, slot: int, value: bytes) -> None:
        """Store a checkpoint of the run in this slot of `worker`.

        The answer is 1 when the checkpoint is stored. If the run no longer owns its job, the
        request fails with `StaleRunError`.
        """

    def abort(self, request_id: int, job_id: str, timeout_ms: int) -> None:
        """Abort a job, and wait until it has ended.

        The answer is an int: 1 if it has ended as aborted within `timeout_ms`, else 0.
        """

    def forget(self, request_id: int) -> None:
        """Cancel this request, if it waits for a result, the end of an aborted job, or a changed
        schedule, or follows a job.
        """

    def depth(self, request_id: int) -> None:
        """Count the jobs that are waiting to start, including scheduled ones.

        The answer is an int.
        """

    def queues(self, request_id: int) -> None:
        """List the names of all queues on this server. The answer is `list[str]`."""

    def inspect(self, request_id: int) -> None:
        """Summarize the queue. The answer is a dict.

        Keys: lanes [{lane, waiting, held, workers}], scheduled, running, dead, unfinished, waiting,
        workers [{id, host, pid, concurrency, prefetch, held, running, started_ms, lease_left_ms,
        version, lanes}], now_ms.

        `waiting` counts all jobs that have not started, and `unfinished` those and the running
        ones. Lanes are in the order in which they are served; `workers` of a lane is None if it is
        not known.
        """

    def jobs(self, request_id: int, state: str, limit: int) -> None:
        """List jobs in the state queued, scheduled, running or dead.

        The answer is `list[JobRecord]`; for the state `dead`, `list[tuple[JobRecord, str]]` with
        the reasons. Scheduled jobs come by due time, dead ones newest first, queued ones oldest
        first within their lane, and running ones in no particular order.
        """

@final
class Worker:
    """The engine of one worker: fetches jobs, passes them to its host, and commits their
    outcomes.
    """

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
    def start(self) -> None:
        """Sign on and begin to fetch jobs. A failure is reported as an event."""

    @property
    def worker_id(self) -> str:
        """The id of the current incarnation. It changes when the lease is lost."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are events, or a job can start."""

    def take(self) -> list[Event]:
        """Take the new events.

        `fileno` becomes readable again when there are more, or when a job can start.
        """

    def sign_on_error(self) -> Exception | None:
        """Return the exception for the event `failed` if the worker could not sign on, else
        None.
        """

    def next(self) -> Assignment | None:
        """Return the next run, if there is one and a free slot.

        It starts now, unless its task is deferred.
        """

    def pulled(self) -> None:
        """Call after the last `next` of a series, unless `complete` follows.

        Long runs are then recorded.
        """

    def defer(self, tasks: Sequence[str]) -> None:
        """Make runs of these tasks start with `begin`, for example when a thread is free, instead
        of with `next`.
        """

    def begin(self, slot: int) -> bool:
        """Start a deferred run.

        If this returns False, it must not start: it is over, and has no outcome.
        """

    def elapsed_ms(self, slot: int) -> int | None:
        """Return how long a run has lasted, in milliseconds; None if there is no such run, or it
        has not started.
        """

    def take_aborts(self) -> list[int]:
        """Return the slots of runs that are to be aborted, each once.

        A run that has not started has already been returned to the queue; it must not start.
        """

    def report(self, slot: int, done: int, total: int | None = None, message: str | None = None) -> None:
        """Report the progress of a run.

        The last report of a run is sent after at most 100 ms, and at the latest with its outcome.
        The report of a run that is over is dropped.
        """

    def checkpoint(self, slot: int) -> bytes | None:
        """Return the last checkpoint of the job in this slot, or None.

        Raises:
            StaleRunError: The run is over.
        """

    def complete(self, outcomes: list[Outcome]) -> None:
        """Submit the outcomes of finished runs and free their slots."""

    def set_burst(self, burst: bool) -> None:
        """Choose whether the event `drained` is emitted when no job is waiting, running or
        scheduled.
        """

    def begin_stop(self) -> None:
        """Fetch no more jobs, and return those that have not started.

        Runs continue. Calling this twice is harmless.
        """

    def finish_stop(self) -> None:
        """Write the remaining outcomes, sign off, then emit the event `stopped`.

        Call this when all runs are complete.
        """

    def now_ms(self) -> int:
        """Return the Redis time of the last reply, plus the time that has passed since by the
        monotonic clock.
        """

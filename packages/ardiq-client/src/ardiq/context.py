"""The context of the current run, which `current_task()` returns."""

from contextvars import ContextVar
from typing import Any, TypeVar, overload

T = TypeVar("T")

NOTHING: Any = object()
"""What `_load` returns if there is no checkpoint."""


class TaskContext:
    """The context of the current run; `current_task()` returns it.

    A task can also report its progress with it, and save checkpoints. A context that you create
    yourself, for example to test a function, keeps the last checkpoint and ignores progress.

    Attributes:
        task_id: The id of the job.
        name: The name of the task.
        tries: The number of this attempt, from 1. A start that ended with a return to the queue is
            not counted.
        queue: The name of the queue.
        headers: The dict of str to str that was passed along with the job.
        enqueue_time: When the job was enqueued or, if it waited for other jobs, when it became
            ready; in epoch milliseconds by the Redis clock.
    """

    __slots__ = ("_checkpoint", "enqueue_time", "headers", "name", "queue", "task_id", "tries")

    def __init__(
        self, task_id: str, name: str, tries: int, queue: str, headers: dict[str, str], enqueue_time: int
    ) -> None:
        self.task_id = task_id
        self.name = name
        self.tries = tries
        self.queue = queue
        self.headers = headers
        self.enqueue_time = enqueue_time

    async def progress(self, done: int, total: int | None = None, message: str | None = None) -> None:
        """Report how far the task has come. It replaces the previous report.

        Call it as often as you like: it does not wait for Redis. The worker sends the latest
        report at most ten times a second. When the run ends, it sends the last one with the
        outcome, if the job will run again or a caller follows it. If Redis refuses a report, it is
        lost, and nothing is raised.

        Args:
            done: How many steps are done.
            total: How many steps there are, if you know.
            message: What the task is doing, for people; up to 1,024 bytes of UTF-8.

        Raises:
            TypeError: If `done` or `total` is not an int, or `message` is not a str.
            ValueError: If a number is negative or does not fit into 63 bits, or `message` is too
                long.

        Example:
            ```python
            @app.task
            async def resize(paths: list[str]) -> None:
                context = current_task()
                assert context is not None
                for number, path in enumerate(paths, 1):
                    print(f"resizing {path}")
                    await context.progress(number, len(paths), path)
            ```
        """
        self.progress_sync(done, total, message)

    def progress_sync(self, done: int, total: int | None = None, message: str | None = None) -> None:
        """The same as `progress`, for `def` tasks and other code in a thread."""
        from ardiq.progress import check_progress  # loaded only when a task reports its progress

        check_progress(done, total, message)
        self._report(done, total, message)

    async def checkpoint(self, value: object) -> None:
        """Save a value for the next attempt, in place of the previous one.

        When this returns, Redis has it: it survives a retry, the death of the worker process, a
        stop, and a takeover by another worker. It is deleted when the job has ended. A new job with
        the same id does not see it.

        Args:
            value: Anything that a task can return. Encoded, it may have up to `max_payload_bytes`.

        Raises:
            StaleRunError: If the run no longer owns its job, because it was abandoned, or another
                worker has taken the job over. The checkpoint of the other run stays.
            BrokerError: If Redis cannot be reached or refuses it. It may have been stored.
            SerializationError: If the value cannot be encoded.
            PayloadTooLargeError: If the encoded value is too large.

        Example:
            ```python
            @app.task(max_retries=5)
            async def copy(rows: int) -> int:
                context = current_task()
                assert context is not None
                for row in range(context.last_checkpoint(0), rows, 100):
                    print(f"copying 100 rows from {row} on")
                    await context.checkpoint(row + 100)
                return rows
            ```
        """
        await self._save(value)

    def checkpoint_sync(self, value: object) -> None:
        """Blocking version of `checkpoint`, for `def` tasks and other code in a thread."""
        self._save_sync(value)

    @overload
    def last_checkpoint(self) -> Any: ...
    @overload
    def last_checkpoint(self, default: T) -> T: ...
    def last_checkpoint(self, default: Any = None) -> Any:
        """Return the value that was saved last, by this attempt or an earlier one.

        Args:
            default: What to return if there is none.

        Raises:
            StaleRunError: If the run has ended or was abandoned.
            SerializationError: If the value cannot be decoded.
        """
        value = self._load()
        return default if value is NOTHING else value

    # What a worker does in another way

    def _report(self, done: int, total: int | None, message: str | None) -> None:
        pass  # without a worker, there is nowhere to send it

    async def _save(self, value: object) -> None:
        self._checkpoint = value

    def _save_sync(self, value: object) -> None:
        self._checkpoint = value

    def _load(self) -> Any:
        return getattr(self, "_checkpoint", NOTHING)

    def __repr__(self) -> str:
        return f"<TaskContext {self.name} {self.task_id} try {self.tries}>"


_current: ContextVar[TaskContext | None] = ContextVar("ardiq_current_task", default=None)

enter = _current.set
"""Sets the context of the running code. The worker calls this once for each run."""


def current_task() -> TaskContext | None:
    """Return the context of the running task, or None outside of a task.

    It works in both `async def` and `def` tasks.

    Example:
        ```python
        @app.task
        async def work() -> None:
            context = current_task()
            if context is not None and context.tries > 1:
                print(f"attempt {context.tries} of job {context.task_id}")
        ```
    """
    return _current.get()

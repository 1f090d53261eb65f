"""The context of the current run, which `current_task()` returns."""

from contextvars import ContextVar


class TaskContext:
    """The context of the current run; `current_task()` returns it.

    Attributes:
        task_id: The id of the job.
        name: The name of the task.
        tries: The number of this attempt, from 1. A start that ended with a return to the queue is
            not counted.
        queue: The name of the queue.
        headers: The dict of str to str that was passed along with the job.
        enqueue_time: When the job was enqueued, in epoch milliseconds by the Redis clock.
    """

    __slots__ = ("enqueue_time", "headers", "name", "queue", "task_id", "tries")

    def __init__(
        self, task_id: str, name: str, tries: int, queue: str, headers: dict[str, str], enqueue_time: int
    ) -> None:
        self.task_id = task_id
        self.name = name
        self.tries = tries
        self.queue = queue
        self.headers = headers
        self.enqueue_time = enqueue_time

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

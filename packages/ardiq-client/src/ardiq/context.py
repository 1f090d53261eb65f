"""What a running task can learn about its own run."""

from contextvars import ContextVar


class TaskContext:
    """The run that the calling code belongs to; see `current_task`.

    `tries` counts starts, this one included. `enqueue_time` is in epoch milliseconds by the Redis
    clock. `headers` are the strings that travel with the job.
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
"""Makes a context that of the running code; the worker calls this once for each run."""


def current_task() -> TaskContext | None:
    """The context of the task that the calling code runs in, `async def` or `def`; None outside of
    one.
    """
    return _current.get()

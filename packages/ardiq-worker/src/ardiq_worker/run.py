"""One attempt of one job, as one value: the context that the task sees, and what only the worker
needs to know.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from ardiq.context import TaskContext

if TYPE_CHECKING:
    import asyncio

    from ardiq.task import Task
    from ardiq_worker.notes import Notes


class Cut(enum.Enum):
    """Why a run was cut short."""

    TIMEOUT = enum.auto()
    STOPPING = enum.auto()
    ABORTED = enum.auto()
    ABANDONED = enum.auto()  # one of the above, and it did not end in time: its outcome is already known


class Run(TaskContext):
    """One attempt.

    `slot` is the number by which the engine identifies it, and `task` is the registered task.
    `notes` passes on what it reports.

    `asyncio_task` is set while the run is suspended. `cut` says why the run was cut short, and
    `overdue` is the timer that then gives up waiting for its end. Code of the task may keep this
    object for as long as it likes, so it refers to nothing large.
    """

    __slots__ = ("asyncio_task", "cut", "notes", "overdue", "slot", "task")

    def __init__(
        self,
        slot: int,
        task: Task[..., Any],
        job_id: str,
        tries: int,
        queue: str,
        headers: dict[str, str],
        enqueued_ms: int,
        notes: Notes | None = None,
    ) -> None:
        # Do not call the base class: this runs once for each job, so it has to be fast.
        self.slot = slot
        self.task = task
        self.task_id = job_id
        self.name = task.name
        self.tries = tries
        self.queue = queue
        self.headers = headers
        self.enqueue_time = enqueued_ms
        self.notes = notes
        self.asyncio_task: asyncio.Task[None] | None = None
        self.cut: Cut | None = None
        self.overdue: asyncio.TimerHandle | None = None

    def _report(self, done: int, total: int | None, message: str | None) -> None:
        if self.notes is not None:
            self.notes.report(self.slot, done, total, message)

    async def _save(self, value: object) -> None:
        if self.notes is None:
            await super()._save(value)
        else:
            await self.notes.save(self.slot, value)

    def _save_sync(self, value: object) -> None:
        if self.notes is None:
            super()._save_sync(value)
        else:
            self.notes.save_sync(self.slot, value)

    def _load(self) -> Any:
        return super()._load() if self.notes is None else self.notes.load(self.slot)

"""The events of a job: what changes about it, from now until it has ended."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ardiq import _core
from ardiq.checks import check_job_id
from ardiq.progress import Progress, progress_of
from ardiq.results import TaskResult, TaskStatus, result_of

if TYPE_CHECKING:
    from ardiq.app import Ardiq

R = TypeVar("R")


class JobEvent(NamedTuple, Generic[R]):
    """What is known about a job when something has changed; `job.events()` yields it.

    Attributes:
        status: The state of the job. In the last event, it is `complete`, or `not_found` if there
            is no such job, or its result is not stored.
        tries: How many attempts there have been, including the current one.
        progress: The last progress that the task has reported; None if there is none.
        result: The result; None before the last event, or if it is not known.
    """

    status: TaskStatus
    tries: int
    progress: Progress | None
    result: TaskResult[R] | None


async def follow(app: Ardiq, job_id: str) -> AsyncGenerator[JobEvent[Any], None]:
    """Yield the events of a job until it has ended; see `Job.events`."""
    stream = app._connection.stream(_core.follow(check_job_id(job_id)))
    try:
        is_last = False
        while not is_last:
            state, tries, progress, result, is_last = await stream.next()
            yield JobEvent(TaskStatus(state), tries, progress_of(progress), result_of(app._codec, result))
    finally:
        stream.close()

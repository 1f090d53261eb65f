"""The progress of a job: what its task reports, and how you read it."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ardiq import _core
from ardiq.checks import check_int, check_job_id, kind_of

if TYPE_CHECKING:
    from ardiq.app import Ardiq
    from ardiq_core.shapes import ProgressRecord

MOST_STEPS = 2**63 - 1
"""The highest number of steps."""

MOST_MESSAGE_BYTES = 1024
"""The limit for the message: it is for people, and it is stored again with each report."""


class Progress(NamedTuple):
    """How far a job has come; `job.progress()` returns it.

    Attributes:
        done: How many steps are done.
        total: How many steps there are; None if the task did not say.
        message: What the task is doing; None if it did not say.
        updated: When this was stored, in epoch milliseconds by the Redis clock.

    Example:
        ```python
        progress = await job.progress()
        if progress is not None and progress.fraction is not None:
            print(f"{progress.fraction:.0%} {progress.message or ''}")
        ```
    """

    done: int
    total: int | None
    message: str | None
    updated: int

    @property
    def fraction(self) -> float | None:
        """`done` divided by `total`, 1.0 at most; None if there is no total, or it is 0."""
        return min(1.0, self.done / self.total) if self.total else None


def check_progress(done: object, total: object, message: object) -> None:
    """Raise TypeError or ValueError for arguments that cannot be reported."""
    check_int("done", done, 0, MOST_STEPS)
    if total is not None:
        check_int("total", total, 0, MOST_STEPS)
    if message is None:
        return
    if not isinstance(message, str):
        raise TypeError(f"message must be a str, not {kind_of(message)}; convert it, for example with str()")
    try:
        size = len(message.encode())
    except UnicodeEncodeError:
        raise ValueError("message must be text that UTF-8 can encode: no lone surrogates") from None
    if size > MOST_MESSAGE_BYTES:
        raise ValueError(f"message has {size} bytes, more than the {MOST_MESSAGE_BYTES} allowed; shorten it")


async def read(app: Ardiq, job_id: str) -> Progress | None:
    """Read the progress of a job; None if it has not reported any, has ended, or is unknown."""
    return progress_of(await app._connection.ask(_core.progress(check_job_id(job_id))))


def read_sync(app: Ardiq, job_id: str) -> Progress | None:
    """Blocking version of `read`, for a thread without an event loop."""
    return progress_of(app._connection.ask_sync(_core.progress(check_job_id(job_id)), "progress"))


def progress_of(record: ProgressRecord | None) -> Progress | None:
    """Convert the engine's reply."""
    return None if record is None else Progress._make(record)

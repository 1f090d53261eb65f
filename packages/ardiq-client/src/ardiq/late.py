"""The error for a wait that has ended without a result. It says where the job is.

This module is loaded only when such an error is raised.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING

from ardiq import _core
from ardiq.errors import BrokerError
from ardiq.options import shown
from ardiq.printable import printable

if TYPE_CHECKING:
    from ardiq.app import Ardiq
    from ardiq_core.shapes import JobRecord

LARGE = 4096
"""Arguments with more bytes are stored separately, so a worker may be unable to read them."""

LOOK_S = 0.25
"""How much later than its timeout a wait may end, in seconds, because the job is looked up."""


async def timed_out(app: Ardiq, job_id: str, timeout_ms: int) -> TimeoutError:
    """Return the error for a wait that has ended without a result."""
    records: list[JobRecord] | None = None
    if _begin_look(app, timeout_ms):
        try:
            records = await app._connection.ask(_core.lookup(job_id), LOOK_S)
        except (BrokerError, OSError):
            pass  # the server does not answer
        finally:
            app._connection.is_looking = False
    return _error(app, timeout_ms, records)


def timed_out_sync(app: Ardiq, job_id: str, timeout_ms: int) -> TimeoutError:
    """Blocking version of `timed_out`, for a thread without an event loop."""
    records: list[JobRecord] | None = None
    if _begin_look(app, timeout_ms):
        try:
            records = app._connection.ask_sync(_core.lookup(job_id), "result", limit_s=LOOK_S)
        except (BrokerError, OSError):
            pass  # the server does not answer
        finally:
            app._connection.is_looking = False
    return _error(app, timeout_ms, records)


def _begin_look(app: Ardiq, timeout_ms: int) -> bool:
    """Return whether this caller may look up its job. A caller with a timeout of 0 polls, and may
    not.

    Only one caller at a time looks up its job: callers often give up together, when the server is
    busy.
    """
    if not timeout_ms or app._connection.is_looking:
        return False
    app._connection.is_looking = True
    return True


def _error(app: Ardiq, timeout_ms: int, records: list[JobRecord] | None) -> TimeoutError:
    place = f"queue {app.queue_name!r} at {shown(app.redis_url)}"
    why = _where(app, records[0]) if records else ""
    return TimeoutError(
        f"no result within {timeout_ms / 1000:g}s from {place}; {why or 'the job may still be running or waiting for a worker'}"
    )


def _where(app: Ardiq, record: JobRecord) -> str:
    """Describe where a job is; empty if it is unknown."""
    (
        _id,
        status,
        name,
        body,
        _enqueued_ms,
        tries,
        _due_ms,
        _headers,
        lane,
        worker,
        _start_ms,
        _deaths,
        misses,
        *links,
    ) = record
    if status == "running":
        return f"attempt {tries} is running on worker {printable(worker or '')}"
    if status == "complete":
        return "the job has finished in the meantime: ask for the result again"
    if status not in ("queued", "scheduled"):
        return ""
    if misses and not tries and (body is None or len(body) > LARGE):
        return f"its workers do not know the task '{printable(name)}', or cannot read its arguments: see their log"
    if misses and not tries:
        return (
            f"its workers do not know the task '{printable(name)}': start one that has it, or correct the name at the "
            "caller"
        )
    if status == "scheduled" and links[0]:
        more = f" and {len(links[0]) - 1} more" if len(links[0]) > 1 else ""
        return f"the job waits for job '{printable(links[0][0])}'{more}"
    if status == "scheduled":
        return f"attempt {tries} failed, and the next one is scheduled" if tries else "the job is scheduled for later"
    return (
        f"no worker has started {f'attempt {tries + 1} of ' if tries else ''}the job, which waits in lane "
        f"'{printable(lane)}': ardiq inspect workers --queue {app.queue_name} lists its workers, if any run"
    )

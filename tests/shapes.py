"""The tuples that cross the seam to the engine, by their fields: see `ardiq_core.shapes`."""

from typing import Any, NamedTuple

from ardiq import Prepared


class Submission(NamedTuple):
    """One job on its way to the engine."""

    job_id: str | None
    name: str
    lane: int
    delay_ms: int
    due_ms: int
    expire_ms: int
    unique: bytes | None
    headers: dict[str, str] | None
    body: bytes


def submission(prepared: Prepared[Any]) -> Submission:
    """Return the submission of a prepared call."""
    return Submission(*prepared._submission)

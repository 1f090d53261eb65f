"""The log lines about attempts that failed or were aborted, and about jobs that this worker cannot
run.

What an exception says may contain arguments, so only its type and its place are logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ardiq.control import Retry
from ardiq_core import FAILURE, RETRY
from ardiq_worker import outcome
from ardiq_worker.logs import Log, job_facts

if TYPE_CHECKING:
    from ardiq_worker.outcome import Verdict
    from ardiq_worker.run import Run

log = Log("ardiq.worker")


def log_failure(run: Run, ended: Verdict, error: BaseException | None, duration_ms: int | None) -> None:
    """Log a failed attempt: as information if the task asked for a retry, as an error if there will
    be none.
    """
    again = ended.kind == RETRY
    asked = again and error is not None and outcome.is_a(error, Retry)
    level = logging.INFO if asked else logging.ERROR if ended.kind == FAILURE else logging.WARNING
    if not log.enabled(level):
        return
    then = f"will be retried in {ended.ttl_or_delay_ms} ms" if again else "will not be retried"
    place = outcome.place(error) if error is not None else ""
    log.log(
        level,
        "%s[%s] failed on attempt %d of %d and %s: %s%s",
        *(run.name, run.task_id, run.tries, run.task.max_retries + 1, then, ended.error_type, place),
        facts=job_facts(run.name, run.task_id, run.tries, "retry" if again else "failed", duration_ms),
    )


def log_aborted(run: Run, duration_ms: int | None) -> None:
    """Log that a job was aborted while it ran."""
    facts = job_facts(run.name, run.task_id, run.tries, "aborted", duration_ms)
    log.info("%s[%s] was aborted during attempt %d", run.name, run.task_id, run.tries, facts=facts)


def log_returned(run: Run, why: str, duration_ms: int | None) -> None:
    """Log that a cancelled run does not count as an attempt."""
    facts = job_facts(run.name, run.task_id, run.tries, "returned", duration_ms)
    log.info("%s[%s] %s", run.name, run.task_id, why, facts=facts)


def log_abandoned(run: Run, waited_s: float, abandoned: int) -> None:
    """Log that a cancelled run has not ended, and how many such runs there are."""
    log.warning(
        "%s[%s] was cancelled, did not end within %g s, and is abandoned (abandoned and not ended: %d). "
        "Do not suppress CancelledError",
        *(run.name, run.task_id, waited_s, abandoned),
    )


def log_unknown(name: str, job_id: str, tries: int) -> None:
    """Log that this worker has no such task."""
    log.warning(
        "%s[%s]: this worker has no task with that name. The job returns to the queue, for up to eleven minutes in "
        "total, and then becomes a dead letter: start a worker that has the task, or correct the name at the caller",
        *(name, job_id),
        facts=job_facts(name, job_id, tries, "unknown_task"),
    )

"""`ardiq abort`: abort jobs by their ids."""

from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli.exits import CommandError, ExitCode, boundary
from ardiq_cli.json_text import json_text
from ardiq_cli.run import Verbose
from ardiq_cli.target import OneQueue, Url, choose_queue

if TYPE_CHECKING:
    from ardiq import Ardiq

_AT_ONCE = 100
"""How many jobs to abort at the same time."""

_TEXTS = {
    "aborted": "aborted",
    "unfinished": "is still running; it ends as aborted when its worker has cancelled it",
    "ended": "had already ended, or ended before it could be aborted",
    "not_found": "unknown, or its result has expired",
}


def abort(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The jobs to abort.")],
    wait: Annotated[float, typer.Option("--wait", min=0.0, help="Seconds to wait for the end of running jobs.")] = 5.0,
    queue: OneQueue = None,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    verbose: Verbose = False,
) -> None:
    """Abort jobs, whether they are scheduled, queued or running.

    Exit code 1: a job had already ended. Exit code 4: a job is unknown. Exit code 5: a job is still
    running after --wait.
    """
    with boundary(verbose=verbose):
        import asyncio

        outcomes = asyncio.run(_abort_all(url, queue, job_ids, wait))
        _show(outcomes, as_json=as_json)
        _raise_if_incomplete(list(outcomes.values()))


async def _abort_all(url: str | None, queue: str | None, job_ids: list[str], wait_s: float) -> dict[str, str]:
    """Abort the jobs; return the outcome of each, a key of `_TEXTS`."""
    import asyncio

    from ardiq.checks import check_job_id

    unique = list(dict.fromkeys(check_job_id(job_id) for job_id in job_ids))
    app = await choose_queue(url, queue)
    outcomes: dict[str, str] = {}
    # First ask for all of them, and then wait for those that are running.
    for first in range(0, len(unique), _AT_ONCE):
        some = unique[first : first + _AT_ONCE]
        outcomes.update(zip(some, await asyncio.gather(*(_abort(app, one, 0) for one in some)), strict=True))
    running = [job_id for job_id, outcome in outcomes.items() if outcome == "unfinished"]
    if wait_s and running:
        outcomes.update(zip(running, await asyncio.gather(*(_abort(app, one, wait_s) for one in running)), strict=True))
    return outcomes


async def _abort(app: "Ardiq", job_id: str, wait_s: float) -> str:
    if await app.abort(job_id, wait_s):
        return "aborted"
    # The job may end at any moment, so the result comes last.
    status = await app.status(job_id)
    result = await app.result(job_id)
    if result is not None:
        return "aborted" if result.aborted else "ended"
    return "unfinished" if status in ("queued", "scheduled", "running") else "not_found"


def _show(outcomes: dict[str, str], *, as_json: bool) -> None:
    from ardiq.printable import printable

    if as_json:
        print(json_text([{"task_id": job_id, "outcome": outcome} for job_id, outcome in outcomes.items()], indent=2))
        return
    for job_id, outcome in outcomes.items():
        print(f"{printable(job_id)}: {_TEXTS[outcome]}")


def _raise_if_incomplete(outcomes: list[str]) -> None:
    codes = {"not_found": ExitCode.NOT_FOUND, "unfinished": ExitCode.TIMEOUT, "ended": ExitCode.FAILED}
    for outcome, code in codes.items():
        if outcome in outcomes:
            missed = len(outcomes) - outcomes.count("aborted")
            raise CommandError(f"not aborted: {missed} of {len(outcomes)}", code)

"""`ardiq inspect`: look at queues, workers and jobs. It only looks; it changes nothing."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli.exits import CommandError, ExitCode, boundary
from ardiq_cli.run import Verbose
from ardiq_cli.target import Url, open_queue

if TYPE_CHECKING:
    from ardiq import Ardiq
    from ardiq.inspection import QueueState
    from ardiq_cli.tables import Row

inspect_app = typer.Typer(help="Look at queues, workers and jobs.", no_args_is_help=True, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines instead of a table for people.")]
AnyQueue = Annotated[str | None, typer.Option("--queue", help="One queue only; all that Redis knows by default.")]
OneQueue = Annotated[str, typer.Option("--queue", help="Queue to look into.")]


class State(StrEnum):
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    DEAD = "dead"


@inspect_app.command()
def queues(queue: AnyQueue = None, url: Url = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """How much waits, runs, is scheduled or dead, per queue and lane."""
    with boundary(verbose=verbose):
        import asyncio

        from ardiq_cli import tables

        seen = asyncio.run(_inspect_all(url, queue))
        found = [{"queue": name, **state} for name, state in seen]
        tables.show(tables.QUEUES, [tables.queue_row(*one) for one in seen], found, as_json=as_json)


@inspect_app.command()
def workers(queue: AnyQueue = None, url: Url = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """The workers that hold a lease, and what they are doing."""
    with boundary(verbose=verbose):
        import asyncio

        from ardiq_cli import tables

        seen = asyncio.run(_inspect_all(url, queue))
        rows = [tables.worker_row(name, worker, state["now_ms"]) for name, state in seen for worker in state["workers"]]
        found = [{"queue": name, **worker} for name, state in seen for worker in state["workers"]]
        tables.show(tables.WORKERS, rows, found, as_json=as_json)


@inspect_app.command()
def jobs(
    job_id: Annotated[str | None, typer.Argument(metavar="ID", help="One job; without it, a list.")] = None,
    state: Annotated[
        list[State] | None, typer.Option("--state", help="Only jobs in this state; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="Jobs to list per state.")] = 50,
    queue: OneQueue = "default",
    url: Url = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Unfinished and dead jobs, or all that is known about one (exit code 4: nothing is)."""
    with boundary(verbose=verbose):
        import asyncio

        from ardiq_cli import tables

        app = open_queue(url, queue)
        if job_id is not None:
            found = asyncio.run(_one_job(app, job_id))
            tables.show_one(found, as_json=as_json)
            return
        listed = asyncio.run(_jobs(app, state or list(State), limit))
        tables.show(tables.JOBS, [tables.job_row(job) for job in listed], listed, as_json=as_json)


async def _inspect_all(url: str | None, queue: str | None) -> "list[tuple[str, QueueState]]":
    """The name of each queue, in order, and what `Ardiq.inspect` says of it."""
    names = [queue] if queue is not None else sorted(await open_queue(url, "default").queues())
    return [(name, await open_queue(url, name).inspect()) for name in names]


async def _jobs(app: "Ardiq", states: list[State], limit: int) -> "list[Row]":
    from ardiq_cli import tables

    return [tables.job_facts(job) for state in states for job in await app.jobs(state.value, limit)]


async def _one_job(app: "Ardiq", job_id: str) -> "Row":
    from ardiq_cli import tables

    # The result first: a job that ends between the two questions is then found by neither the wrong way round.
    for _ in range(2):
        result = await app.result(job_id)
        if result is not None:
            return tables.result_facts(result)
        info = await app.info(job_id)
        if info is not None:
            return tables.job_facts(info)
    raise CommandError(f"queue {app.queue_name!r} has no job {job_id!r} (results expire)", ExitCode.NOT_FOUND)

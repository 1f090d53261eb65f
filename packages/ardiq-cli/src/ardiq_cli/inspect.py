"""`ardiq inspect`: look at queues, workers and jobs. It only looks; it changes nothing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli.exits import CommandError, ExitCode, boundary, complain
from ardiq_cli.help_text import examples
from ardiq_cli.run import Verbose
from ardiq_cli.target import Url, look, open_queue

if TYPE_CHECKING:
    from ardiq import Ardiq
    from ardiq.inspection import QueueState
    from ardiq_cli.tables import Row

inspect_app = typer.Typer(help="Inspect queues, workers and jobs.", no_args_is_help=True, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines instead of a table for people.")]
AnyQueue = Annotated[str | None, typer.Option("--queue", help="Only this queue. Default: all queues in Redis.")]
OneQueue = Annotated[str, typer.Option("--queue", help="Queue to inspect.")]


class State(StrEnum):
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    DEAD = "dead"


@inspect_app.command(
    short_help="How many jobs wait, run, are scheduled or dead.",
    epilog=examples("ardiq inspect queues", "ardiq inspect queues --queue shop --json"),
)
def queues(queue: AnyQueue = None, url: Url = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """How much waits, runs, is scheduled or dead, per queue and lane (exit code 4: there is no such queue)."""
    with boundary(verbose=verbose):
        import asyncio

        from ardiq_cli import tables

        seen = asyncio.run(_inspect_all(url, queue))
        rows = [tables.queue_row(one.name, one.state) for one in seen]
        tables.show(tables.QUEUES, rows, [one.facts() for one in seen], as_json=as_json)
        _complain_of(seen)


@inspect_app.command(
    epilog=examples("ardiq inspect workers", "ardiq inspect workers --queue shop --json"),
)
def workers(queue: AnyQueue = None, url: Url = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """The workers that hold a lease, and what they are doing."""
    with boundary(verbose=verbose):
        import asyncio

        from ardiq_cli import tables

        seen = asyncio.run(_inspect_all(url, queue))
        known = [(one.name, one.state) for one in seen if one.state is not None]
        rows = [
            tables.worker_row(name, worker, state["now_ms"]) for name, state in known for worker in state["workers"]
        ]
        found = [{"queue": name, **worker} for name, state in known for worker in state["workers"]]
        tables.show(tables.WORKERS, rows, found, as_json=as_json)
        _complain_of(seen)


@inspect_app.command(
    short_help="Unfinished and dead jobs, or all about one job.",
    epilog=examples("ardiq inspect jobs --queue shop --state dead", "ardiq inspect jobs --queue shop JOB_ID"),
)
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


@dataclass(frozen=True)
class _Seen:
    """A queue's name and its state, or the error that prevented reading it."""

    name: str
    state: "QueueState | None" = None
    trouble: str = ""
    foreign: bool = False
    """Not a valid queue name: another program has written it into the set of names."""

    def facts(self) -> "Row":
        return {"queue": self.name, "error": self.trouble} if self.state is None else {"queue": self.name, **self.state}


async def _inspect_all(url: str | None, queue: str | None) -> list[_Seen]:
    """Return each queue, sorted by name, with the result of `Ardiq.inspect`."""
    if queue is not None:
        return [_Seen(queue, await look(open_queue(url, queue)))]
    every = open_queue(url, "default")
    return [await _inspect_one(url, name, every) for name in sorted(await every.queues())]


async def _inspect_one(url: str | None, name: str, every: "Ardiq") -> _Seen:
    from ardiq.errors import BrokerError

    try:
        app = open_queue(url, name)
    except CommandError:
        return _Seen(name, trouble="this is not the name of a queue", foreign=True)
    try:
        return _Seen(name, await app.inspect())
    except BrokerError as error:
        await every.queues()  # raises if the server is unreachable, not just this queue unreadable
        return _Seen(name, trouble=str(error))


def _complain_of(seen: list[_Seen]) -> None:
    """Report what could not be read; exit code 1 if a queue was among it."""
    troubled = [one for one in seen if one.trouble]
    for one in troubled:
        complain(f"queue {one.name!r}: {one.trouble}")
    if not all(one.foreign for one in troubled):
        raise SystemExit(ExitCode.FAILED)


async def _jobs(app: "Ardiq", states: list[State], limit: int) -> "list[Row]":
    from ardiq_cli import tables

    listed = [tables.job_facts(job) for state in states for job in await app.jobs(state.value, limit)]
    if not listed:
        await look(app)
    return listed


async def _one_job(app: "Ardiq", job_id: str) -> "Row":
    from ardiq.errors import SerializationError
    from ardiq_cli import tables

    # The result first: a job that ends between the two questions is then found by neither the wrong way round.
    for _ in range(2):
        result = await app.result(job_id)
        if result is not None:
            return tables.result_facts(result)
        try:
            info = await app.info(job_id)
        except SerializationError as error:  # its arguments are not those of a call
            return {"task_id": job_id, "status": str(await app.status(job_id)), "error": str(error)}
        if info is not None:
            return tables.job_facts(info)
    await look(app)
    raise CommandError(f"queue {app.queue_name!r} has no job {job_id!r} (results expire)", ExitCode.NOT_FOUND)

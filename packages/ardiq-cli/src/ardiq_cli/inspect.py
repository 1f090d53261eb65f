"""`ardiq inspect`: show queues, workers and jobs. It only reads, and changes nothing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli import complete
from ardiq_cli.exits import CommandError, ExitCode, boundary, complain
from ardiq_cli.help_text import examples
from ardiq_cli.layout import LONGEST_NAME, shorten
from ardiq_cli.run import Verbose
from ardiq_cli.target import DEFAULT_QUEUE, OneQueue, Url, choose_queue, look, open_queue

if TYPE_CHECKING:
    from ardiq import Ardiq
    from ardiq.inspection import QueueState
    from ardiq_cli.tables import Row

inspect_app = typer.Typer(help="Inspect queues, workers and jobs.", no_args_is_help=True, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
AnyQueue = Annotated[
    str | None,
    typer.Option("--queue", help="Only this queue. Default: all in Redis.", autocompletion=complete.queues),
]

_SEARCHED = 1000
"""How many jobs of each state to search for those of one task."""


class State(StrEnum):
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    DEAD = "dead"


@inspect_app.command(
    short_help="Show how many jobs are waiting, running or dead.",
    epilog=examples("ardiq inspect queues", "ardiq inspect queues --queue shop --json"),
)
def queues(queue: AnyQueue = None, url: Url = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show how many jobs are waiting, running, scheduled or dead, per queue and lane.

    Exit code 4: there is no such queue.
    """
    with boundary(verbose=verbose, only_shows=True):
        import asyncio

        from ardiq_cli import tables

        seen = asyncio.run(_inspect_all(url, queue))
        rows = [tables.queue_row(one.name, one.state) for one in seen]
        notes = [*([tables.QUEUE_COUNTS] if rows else []), *(note for one in seen for note in one.trouble())]
        tables.show(tables.QUEUES, rows, [one.facts() for one in seen], as_json=as_json, notes=notes)
        _complain_of(seen)


@inspect_app.command(
    short_help="Show the workers and their leases.",
    epilog=examples("ardiq inspect workers", "ardiq inspect workers --queue shop --json"),
)
def workers(queue: AnyQueue = None, url: Url = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show the workers, the jobs that they hold, and how long their leases are still valid."""
    with boundary(verbose=verbose, only_shows=True):
        import asyncio

        from ardiq_cli import tables, trouble

        seen = asyncio.run(_inspect_all(url, queue))
        known = [(one.name, one.state) for one in seen if one.state is not None]
        rows = [
            tables.worker_row(name, worker, state["now_ms"]) for name, state in known for worker in state["workers"]
        ]
        found = [{"queue": name, **worker} for name, state in known for worker in state["workers"]]
        notes = [
            f"queue {name}: {trouble.of_worker(worker)}"
            for name, state in known
            for worker in state["workers"]
            if worker["lease_left_ms"] < 0
        ]
        if not rows and not any(one.error for one in seen):
            notes.append("No worker is running. Start one: ardiq run MODULE:APP")
        tables.show(tables.WORKERS, rows, found, as_json=as_json, notes=notes)
        _complain_of(seen)


@inspect_app.command(
    short_help="Show unfinished and dead jobs, or one job.",
    epilog=examples("ardiq inspect jobs --queue shop --state dead", "ardiq inspect jobs --queue shop JOB_ID"),
)
def jobs(
    job_id: Annotated[str | None, typer.Argument(metavar="ID", help="One job; without it, a list.")] = None,
    state: Annotated[
        list[State] | None, typer.Option("--state", help="Only jobs in this state; may be repeated.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", help="Only this task, of the first 1000 jobs per state.", autocompletion=complete.tasks),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="Jobs to list per state.")] = 50,
    queue: OneQueue = None,
    url: Url = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show unfinished and dead jobs, or all that is known about one job.

    One that waits for others, or that others wait for, is shown with these jobs as a tree. Exit
    code 4: there is no such queue or job.
    """
    with boundary(verbose=verbose, only_shows=True):
        import asyncio

        from ardiq_cli import tables

        if job_id is not None:
            found = asyncio.run(_one_job(url, queue, job_id))
            family = found.pop("family", None) if not as_json else None
            tables.show_one(found, as_json=as_json)
            if family is not None:
                from ardiq_cli.family import show

                show(family)
            return
        listed = asyncio.run(_jobs(url, queue, state or list(State), task, limit))
        tables.show(tables.JOBS, listed.rows, listed.facts, as_json=as_json, notes=listed.notes)


@dataclass(frozen=True)
class _Seen:
    """A queue's name and its state, or the error that prevented reading it."""

    name: str
    state: "QueueState | None" = None
    error: str = ""
    foreign: bool = False
    """Not a valid queue name: another program has written it into the set of names."""

    def facts(self) -> "Row":
        if self.state is None:
            return {"queue": self.name, "error": self.error}
        return {"queue": self.name, **self.state, "trouble": self.trouble()}

    def trouble(self) -> list[str]:
        """What is wrong with the queue, in sentences."""
        from ardiq_cli import trouble

        return [] if self.state is None else trouble.of_queue(self.state)


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
        return _Seen(name, error="this is not the name of a queue", foreign=True)
    try:
        return _Seen(name, await app.inspect())
    except BrokerError as error:
        await every.queues()  # raises if the server is unreachable, not just this queue unreadable
        return _Seen(name, error=str(error))


def _complain_of(seen: list[_Seen]) -> None:
    """Report what could not be read. The exit code is 1 if this includes a queue."""
    troubled = [one for one in seen if one.error]
    for one in troubled:
        complain(f"queue {shorten(one.name, LONGEST_NAME)!r}: {one.error}")
    if not all(one.foreign for one in troubled):
        raise SystemExit(ExitCode.FAILED)


@dataclass(frozen=True)
class _Jobs:
    """A list of jobs: rows for a table, facts for machines, and notes about the list."""

    rows: list[list[str]]
    facts: "list[Row]"
    notes: list[str]


async def _jobs(url: str | None, queue: str | None, states: list[State], task: str | None, limit: int) -> _Jobs:
    from ardiq import DeadJob, TaskInfo
    from ardiq_cli import tables, trouble

    app = await choose_queue(url, queue)
    listed = _Jobs([], [], [])
    looked_at = limit if task is None else max(limit, _SEARCHED)
    shown: list[TaskInfo | DeadJob] = []
    # Count the dead letters first: more may be added meanwhile.
    letters = (await look(app))["dead"] if State.DEAD in states else 0
    unreadable = 0
    for state in states:
        found = await app.jobs(state.value, looked_at)
        jobs = [job for job in found if task in (None, (job if isinstance(job, TaskInfo) else job.info).fn_name)]
        if len(jobs) > limit or len(found) == looked_at:
            listed.notes.append(f"There may be more {state.value} jobs: use --limit.")
        elif state is State.DEAD:
            unreadable = max(0, letters - len(found))
        shown += jobs[:limit]
    # After the jobs: a worker may have started meanwhile.
    seen = await look(app)
    for job in shown:
        note = trouble.of_job(job, seen["workers"]) if isinstance(job, TaskInfo) else ""
        facts = tables.job_facts(job, note)
        listed.facts.append(facts)
        listed.rows.append(tables.job_row(facts, seen["now_ms"]))
    if unreadable:
        entries = "1 entry" if unreadable == 1 else f"{unreadable} entries"
        key = f"ardiq:{{{app.queue_name}}}:dead"
        complain(f"{entries} in {key} cannot be read as dead letters. To see all entries: XRANGE {key} - +")
    elif not shown:
        listed.notes.append(_none(app.queue_name, states, task))
    return listed


def _none(queue: str, states: list[State], task: str | None) -> str:
    """What to say in place of an empty list."""
    from ardiq.printable import printable

    kinds = "unfinished or dead" if set(states) == set(State) else " or ".join(states)
    of_task = "" if task is None else f" of task {printable(task)}"
    return f"There are no {kinds} jobs{of_task}. To see a finished one: ardiq inspect jobs --queue {queue} ID"


async def _one_job(url: str | None, queue: str | None, job_id: str) -> "Row":
    app = open_queue(url, DEFAULT_QUEUE if queue is None else queue)
    found = await _find(app, job_id)
    if found is None and queue is None:
        app = await choose_queue(url, queue)
        found = await _find(app, job_id) if app.queue_name != DEFAULT_QUEUE else None
    if found is None:
        await look(app)
        raise CommandError(f"queue {app.queue_name!r} has no job {job_id!r} (results expire)", ExitCode.NOT_FOUND)
    return found


async def _find(app: "Ardiq", job_id: str) -> "Row | None":
    from ardiq import Job
    from ardiq.errors import BrokerRefusedError, SerializationError
    from ardiq_cli import tables, trouble

    # Ask for the result, then for the job, and repeat: a job that ends between the two questions is
    # found by neither of them.
    for _ in range(2):
        result = await app.result(job_id)
        if result is not None:
            return tables.result_facts(result)
        try:
            info = await app.info(job_id)
        except (BrokerRefusedError, SerializationError) as error:  # its arguments cannot be read, or are no call
            return {"task_id": job_id, "status": str(await app.status(job_id)), "error": str(error)}
        if info is not None:
            progress = await Job(app, job_id).progress()
            facts = tables.job_facts(info, trouble.of_job(info, (await app.inspect())["workers"]))
            found = {**facts, "progress": None if progress is None else progress._asdict()}
            if info.dependencies or info.dependents:
                from ardiq_cli.family import family_of

                found["family"] = await family_of(app, info)
            return found
    return None

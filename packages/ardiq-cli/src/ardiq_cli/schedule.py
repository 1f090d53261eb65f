"""`ardiq schedule`: list, pause, resume, fire and remove schedules."""

from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli import complete
from ardiq_cli.exits import CommandError, ExitCode, boundary
from ardiq_cli.help_text import examples
from ardiq_cli.inspect import AsJson
from ardiq_cli.json_text import json_text
from ardiq_cli.run import Verbose
from ardiq_cli.target import OneQueue, Url, choose_queue, look

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ardiq import Schedule

schedule_app = typer.Typer(
    help="List, pause, resume, fire and remove schedules.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("ardiq schedule list --queue shop"),
)

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help="The schedules.", autocompletion=complete.schedules),
]
JsonText = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

_UNKNOWN = "unknown"
_STATIC = "static"
_TEXTS = {
    _UNKNOWN: "there is no schedule with this name",
    _STATIC: "cannot be removed, because the code of a worker defines it: remove @app.cron there, or pause it",
}


@schedule_app.command(
    "list",
    short_help="Show the schedules, and when they fire next.",
    epilog=examples("ardiq schedule list --queue shop", "ardiq schedule list --queue shop --json"),
)
def list_(queue: OneQueue = None, url: Url = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show the schedules of a queue: dynamic ones, and those in the code of its workers.

    Exit code 4: there is no such queue.
    """
    with boundary(verbose=verbose, only_shows=True):
        import asyncio

        from ardiq_cli import schedule_table, tables

        async def read() -> schedule_table.Listed:
            app = await choose_queue(url, queue)
            return schedule_table.listed(await app.schedules(), await look(app))

        found = asyncio.run(read())
        tables.show(schedule_table.SCHEDULES, found.rows, found.facts, as_json=as_json, notes=found.notes)


@schedule_app.command(
    short_help="Stop schedules from firing until they are resumed.",
    epilog=examples("ardiq schedule pause --queue shop nightly"),
)
def pause(
    names: Names, queue: OneQueue = None, url: Url = None, as_json: JsonText = False, verbose: Verbose = False
) -> None:
    """Pause schedules: they do not fire until they are resumed.

    Exit code 4: there is no such queue or schedule.
    """

    async def one(schedule: "Schedule[object]") -> str:
        return "paused" if await schedule.pause() else _UNKNOWN

    _change(names, one, queue, url, as_json=as_json, verbose=verbose)


@schedule_app.command(
    short_help="Let paused schedules fire again.",
    epilog=examples("ardiq schedule resume --queue shop nightly"),
)
def resume(
    names: Names, queue: OneQueue = None, url: Url = None, as_json: JsonText = False, verbose: Verbose = False
) -> None:
    """Resume schedules. Occurrences of the past are skipped.

    Exit code 4: there is no such queue or schedule.
    """

    async def one(schedule: "Schedule[object]") -> str:
        return "resumed" if await schedule.resume() else _UNKNOWN

    _change(names, one, queue, url, as_json=as_json, verbose=verbose)


@schedule_app.command(
    short_help="Enqueue a job of each schedule now.",
    epilog=examples("ardiq schedule fire --queue shop nightly"),
)
def fire(
    names: Names, queue: OneQueue = None, url: Url = None, as_json: JsonText = False, verbose: Verbose = False
) -> None:
    """Enqueue a job of each schedule now, even if it is paused, and print the ids.

    Exit code 4: there is no such queue or schedule.
    """

    async def one(schedule: "Schedule[object]") -> str:
        from ardiq.errors import ScheduleNotFoundError

        try:
            return f"enqueued {(await schedule.fire()).id}"
        except ScheduleNotFoundError:
            return _UNKNOWN

    _change(names, one, queue, url, as_json=as_json, verbose=verbose)


@schedule_app.command(
    short_help="Remove dynamic schedules.",
    epilog=examples("ardiq schedule remove --queue shop customer:42"),
)
def remove(
    names: Names, queue: OneQueue = None, url: Url = None, as_json: JsonText = False, verbose: Verbose = False
) -> None:
    """Remove dynamic schedules. Jobs that they have enqueued are not affected.

    Exit code 1: a schedule is in the code of a worker. Exit code 4: there is no such queue or
    schedule.
    """

    async def one(schedule: "Schedule[object]") -> str:
        try:
            return "removed" if await schedule.unschedule() else _UNKNOWN
        except ValueError:
            return _STATIC

    _change(names, one, queue, url, as_json=as_json, verbose=verbose)


def _change(
    names: list[str],
    change: "Callable[[Schedule[object]], Awaitable[str]]",
    queue: str | None,
    url: str | None,
    *,
    as_json: bool,
    verbose: bool,
) -> None:
    """Make a change to each schedule, and print what has become of it."""
    with boundary(verbose=verbose):
        import asyncio

        async def change_all() -> dict[str, str]:
            from ardiq.checks import check_job_id

            unique = list(dict.fromkeys(check_job_id(name) for name in names))
            app = await choose_queue(url, queue)
            outcomes = {name: await change(app.schedule(name)) for name in unique}
            if _UNKNOWN in outcomes.values():
                await look(app)  # raises if there is no such queue
            return outcomes

        outcomes = asyncio.run(change_all())
        _show(outcomes, as_json=as_json)
        missed = [outcome for outcome in outcomes.values() if outcome in _TEXTS]
        if missed:
            code = ExitCode.NOT_FOUND if _UNKNOWN in missed else ExitCode.FAILED
            raise CommandError(f"not changed: {len(missed)} of {len(outcomes)}", code)


def _show(outcomes: dict[str, str], *, as_json: bool) -> None:
    from ardiq.printable import printable

    if as_json:
        facts: list[dict[str, str]] = []
        for name, outcome in outcomes.items():
            kind, _, job_id = outcome.partition(" ")
            facts.append({"name": name, "outcome": kind, **({"task_id": job_id} if job_id else {})})
        print(json_text(facts, indent=2))
        return
    for name, outcome in outcomes.items():
        print(f"{printable(name)}: {printable(_TEXTS.get(outcome, outcome))}")

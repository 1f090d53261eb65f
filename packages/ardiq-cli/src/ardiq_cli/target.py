"""The queue that an operator's command looks at, through an application object that has no tasks."""

from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from ardiq import Ardiq

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Redis to look at, else $ARDIQ_REDIS_URL, else redis://localhost:6379."),
]


def open_queue(url: str | None, queue: str) -> "Ardiq":
    """An application object for `queue`. Raises CommandError (exit code 2) for a bad URL or name; does no I/O."""
    from ardiq import Ardiq

    try:
        return Ardiq(redis_url=url, queue_name=queue)
    except (ValueError, TypeError) as error:
        raise CommandError(str(error), ExitCode.USAGE) from error

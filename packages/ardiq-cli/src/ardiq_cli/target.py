"""The queue that an operator's command looks at, through an application object that has no tasks."""

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli.exits import CommandError, ExitCode, complain

if TYPE_CHECKING:
    from ardiq import Ardiq
    from ardiq.inspection import QueueState

_MOST_NAMES = 20

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Redis. Default: $ARDIQ_REDIS_URL, `ardiq dev`, redis://localhost:6379."),
]


def open_queue(url: str | None, queue: str) -> "Ardiq":
    """An application object for `queue`. Raises CommandError (exit code 2) for a bad URL or name; does no I/O."""
    from ardiq import Ardiq
    from ardiq_cli.foreign import decode, encode

    try:
        return Ardiq(redis_url=_server(url), queue_name=queue, serializer=encode, deserializer=decode)
    except (ValueError, TypeError) as error:
        raise CommandError(str(error), ExitCode.USAGE) from error


@cache
def _server(url: str | None) -> str | None:
    """Return the URL to use, and say so if nobody has named it: it is that of this project's development server."""
    from ardiq.development import find_server
    from ardiq.options import DEFAULT_URL, names_server

    if names_server(url):
        return url
    server, unused = find_server()
    if server is not None:
        complain(f"using the development server of {server.project}, {server.url}")
        return server.url
    if unused is not None:
        complain(f"no development server runs for {unused} (start it with `ardiq dev`); using {DEFAULT_URL}")
    return url


async def look(app: "Ardiq") -> "QueueState":
    """The state of a queue. Raises CommandError (exit code 4) that names those that exist when it is none of them."""
    state = await app.inspect()
    if state["lanes"] or state["workers"] or state["unfinished"] or state["dead"]:
        return state
    from ardiq.errors import BrokerError

    try:
        names = await app.queues()
    except BrokerError:  # this user may look into its own queue only, and there is nothing in it
        names = []
    if app.queue_name not in names:
        raise CommandError(f"there is no queue {app.queue_name!r}; {_those(names, app.queue_name)}", ExitCode.NOT_FOUND)
    return state


def _those(names: Iterable[str], wanted: str) -> str:
    from difflib import get_close_matches

    known = list(names)
    if not known:
        return "a queue is created by its first job or worker"
    near = get_close_matches(wanted, known, n=_MOST_NAMES)
    ordered = [*near, *(name for name in sorted(known) if name not in near)]
    more = f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
    return f"Redis has {', '.join(map(repr, ordered[:_MOST_NAMES]))}{more}"

"""Opens the queue that an operator's command reads, with an application object without tasks."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli import complete
from ardiq_cli.exits import CommandError, ExitCode, complain
from ardiq_cli.layout import LONGEST_NAME, shorten

if TYPE_CHECKING:
    from ardiq import Ardiq
    from ardiq.errors import BrokerError
    from ardiq.inspection import QueueState

_MOST_NAMES = 20

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Redis. Default: $ARDIQ_REDIS_URL, `ardiq dev`, redis://localhost:6379."),
]

OneQueue = Annotated[
    str | None,
    typer.Option(
        "--queue", help="The queue. Default: `default`, else the only one in Redis.", autocompletion=complete.queues
    ),
]
DEFAULT_QUEUE = "default"


def open_queue(url: str | None, queue: str, *, connect_timeout_s: float = 5.0) -> "Ardiq":
    """Return an application object for `queue`.

    Raises CommandError (exit code 2) for a bad URL or name; does no I/O.
    """
    from ardiq import Ardiq
    from ardiq_cli.foreign import decode, encode

    try:
        return Ardiq(
            redis_url=_server(url),
            queue_name=queue,
            serializer=encode,
            deserializer=decode,
            connect_timeout_s=connect_timeout_s,
        )
    except (ValueError, TypeError) as error:
        raise CommandError(str(error), ExitCode.USAGE) from error


@cache
def _server(url: str | None) -> str | None:
    """Return the URL to use. If it is that of the project's development server, say so."""
    from ardiq.development import find_server
    from ardiq.options import DEFAULT_URL, names_server

    if names_server(url):
        return url
    search = find_server()
    server, warning = search.server, search.warning
    if server is not None:
        complain(f"using the development server of {server.project}, {server.url}")
        return server.url
    if warning is not None:
        complain(warning)
        return DEFAULT_URL  # named, so that the client does not search again and repeat the warning
    return url


def _is_queue(name: str) -> bool:
    """Return whether `name` is valid for a queue: other programs may have written into the set of
    names.
    """
    from ardiq.options import DEFAULT_URL

    try:
        open_queue(DEFAULT_URL, name)
    except CommandError:
        return False
    return True


async def choose_queue(url: str | None, queue: str | None, *, connect_timeout_s: float = 5.0) -> "Ardiq":
    """Open the queue that a command means: `queue`, else "default", else the only one that there
    is.

    Says on standard error which queue it is, if there are others or if it is not "default". Raises
    CommandError (exit code 4) if there are several and none of them is "default".
    """
    app = open_queue(url, DEFAULT_QUEUE if queue is None else queue, connect_timeout_s=connect_timeout_s)
    if queue is not None:
        return app
    await app.inspect()  # an error of the connection is raised here
    from ardiq.errors import BrokerError

    try:
        names = await app.queues()
    except BrokerError as error:  # this user may not read the names
        _tell_wrong_type(error)
        return app
    others = sorted(name for name in names if name != DEFAULT_QUEUE and _is_queue(name))
    if not others:
        return app
    if DEFAULT_QUEUE in names:
        complain(f"using queue {DEFAULT_QUEUE!r}; to choose another one, pass --queue NAME: {_some(others)}")
        return app
    if len(others) > 1:
        message = f"there is no queue {DEFAULT_QUEUE!r}; choose one with --queue NAME: {_some(others)}"
        raise CommandError(message, ExitCode.NOT_FOUND)
    complain(f"using queue {others[0]!r}, the only one in Redis")
    return open_queue(url, others[0], connect_timeout_s=connect_timeout_s)


async def look(app: "Ardiq") -> "QueueState":
    """Return the state of a queue.

    Raises CommandError (exit code 4), which names the existing queues, if there is no such queue.
    """
    state = await app.inspect()
    if state["lanes"] or state["workers"] or state["unfinished"] or state["dead"]:
        return state
    from ardiq.errors import BrokerError

    try:
        names = await app.queues()
    except BrokerError as error:  # this user may only read its own queue, which is empty
        _tell_wrong_type(error)
        names = []
    if app.queue_name not in names:
        raise CommandError(f"there is no queue {app.queue_name!r}; {_those(names, app.queue_name)}", ExitCode.NOT_FOUND)
    return state


def _tell_wrong_type(error: "BrokerError") -> None:
    """Say that the names cannot be read because their key holds something else: a missing
    permission is usual, but this is not.
    """
    if "WRONGTYPE" in str(error):
        complain(f"the names of the queues cannot be read. {error}. The next worker or job sets the key aside")


def _those(names: Iterable[str], wanted: str) -> str:
    from difflib import get_close_matches

    known = list(names)
    if not known:
        return "a queue is created by its first job or worker"
    near = get_close_matches(wanted, known, n=_MOST_NAMES)
    return f"Redis has {_some([*near, *(name for name in sorted(known) if name not in near)])}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(repr(shorten(name, LONGEST_NAME)) for name in names[:_MOST_NAMES])}{more}"

"""Completion of the names of queues, tasks and schedules in the shell.

It either answers quickly or offers nothing, and it never prints an error.
"""

import contextlib
import io
import re
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import typer

_CONNECT_S = 0.5
_LIMIT_S = 1.0
_MOST_JOBS = 200
"""How many jobs of each state to read in order to offer the names of their tasks."""

_HARMLESS = re.compile(r"[\w.:/@+-]+")
"""Only names of these characters are offered.

Completion scripts pass names through the shell, and anyone who can write to Redis can make up a
name.
"""


def queues(context: typer.Context, incomplete: str) -> list[str]:
    """Return the queues in Redis whose names begin with `incomplete`."""

    async def names() -> Iterable[str]:
        from ardiq_cli.target import DEFAULT_QUEUE, open_queue

        return await open_queue(context.params.get("url"), DEFAULT_QUEUE, connect_timeout_s=_CONNECT_S).queues()

    return _among(names, incomplete)


def tasks(context: typer.Context, incomplete: str) -> list[str]:
    """Return the tasks of jobs in the queue whose names begin with `incomplete`."""

    async def names() -> Iterable[str]:
        from ardiq_cli.target import choose_queue

        url, queue = context.params.get("url"), context.params.get("queue")
        app = await choose_queue(url, queue, connect_timeout_s=_CONNECT_S)
        dead = {job.info.fn_name for job in await app.jobs("dead", _MOST_JOBS)}
        jobs = [job for state in ("running", "queued", "scheduled") for job in await app.jobs(state, _MOST_JOBS)]
        return dead.union(job.fn_name for job in jobs)

    return _among(names, incomplete)


def schedules(context: typer.Context, incomplete: str) -> list[str]:
    """Return the schedules of the queue whose names begin with `incomplete`."""

    async def names() -> Iterable[str]:
        from ardiq_cli.target import choose_queue

        url, queue = context.params.get("url"), context.params.get("queue")
        app = await choose_queue(url, queue, connect_timeout_s=_CONNECT_S)
        return [one.name for one in await app.schedules()]

    return _among(names, incomplete)


def _among(ask: Callable[[], Coroutine[Any, Any, Iterable[str]]], incomplete: str) -> list[str]:
    import asyncio

    async def answer() -> list[str]:
        async with asyncio.timeout(_LIMIT_S):
            names = await ask()
        return sorted(name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name))

    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Exception):
        return asyncio.run(answer())
    return []

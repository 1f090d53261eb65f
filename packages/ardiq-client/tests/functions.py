"""A module of tasks like that of an application, for code that finds tasks by module and name."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from ardiq import Ardiq

app = Ardiq("redis://127.0.0.1:1", queue_name="functions")


@app.task
async def double(number: int, *, times: int = 1) -> int:
    """Double a number."""
    return number << times


@app.task(name="text.join", max_retries=1)
def join(parts: list[str], by: str = ",") -> str:
    """Join parts."""
    return by.join(parts)


def _hidden(number: int) -> int:
    return number


shown = app.task(name="shown")(_hidden)


class Group:
    @staticmethod
    @app.task
    async def inside(number: int) -> int:
        return number

    @app.task
    @staticmethod
    async def outside(number: int) -> int:
        return number


def traced(fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """An ordinary function around a coroutine function."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return fn(*args, **kwargs)

    return wrapper


@app.task
@traced
async def decorated(number: int) -> int:
    """Return the number."""
    return number

"""A project for `ardiq dev`: its tasks, and what its development server does with them."""

import re

from ardiq import Ardiq
from tests.programs import Program

TASKS = """
    from ardiq import Ardiq
    app = Ardiq()
    @app.task
    async def double(n): return 2 * n
"""


def server_pids(program: Program) -> list[int]:
    """The servers that `ardiq dev` has named so far, the last one last."""
    return [int(pid) for pid in re.findall(r"development server \(pid (\d+)\)", program.output)]


def doubled(url: str, number: int) -> object:
    """Return the result of the task for a number, on the server at `url`."""
    result = Ardiq(redis_url=url).ref("double").enqueue_sync(number).result_sync(timeout=20)
    assert result is not None
    return result.value

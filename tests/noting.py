"""What the tests of progress, checkpoints and events have in common."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ardiq import Ardiq, Job, Progress, TaskContext, current_task


@asynccontextmanager
async def working(app: Ardiq, *, grace_s: float = 0, concurrency: int | None = None) -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        worker = asyncio.create_task(app.run(shutdown_grace_s=grace_s, concurrency=concurrency))
        try:
            yield
        finally:
            app.stop()
            await worker


def here() -> TaskContext:
    context = current_task()
    assert context is not None
    return context


class Gate:
    """Lets a task on the loop or in a thread go on, once for each opening."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Semaphore(0)
        self._may_go = threading.Semaphore(0)

    def block(self) -> None:
        """Wait in a thread."""
        self._loop.call_soon_threadsafe(self._arrived.release)
        assert self._may_go.acquire(timeout=20)

    async def wait(self) -> None:
        """Wait on the loop."""
        await asyncio.to_thread(self.block)

    async def arrival(self) -> None:
        async with asyncio.timeout(20):
            await self._arrived.acquire()

    def open(self) -> None:
        self._may_go.release()


async def value(job: Job[Any]) -> Any:
    result = await job.result(timeout=20)
    assert result.success, result
    return result.value


async def stored(job: Job[Any], done: int) -> Progress:
    """Wait until this progress can be read."""
    async with asyncio.timeout(20):
        while (progress := await job.progress()) is None or progress.done != done:  # noqa: ASYNC110 - the server says so
            await asyncio.sleep(0.01)
    return progress

"""SAQ: a queue with `enqueue`, and a worker with `concurrency`.

Enqueuing several jobs at once is its fastest way.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from probe import ran
from saq import Queue, Worker
from work import NAP_S
from work import crunch as compute


async def noop(ctx: Any, *, payload: str | None = None) -> None:
    ran()


async def nap(ctx: Any, *, payload: str | None = None) -> None:
    await asyncio.sleep(NAP_S)
    ran()


async def crunch(ctx: Any, *, payload: str | None = None) -> None:
    compute()


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        # Its pool needs a connection for each enqueue in flight.
        self.queue: Any = Queue.from_url(f"{url}?max_connections={2 * concurrency + 200}", name="bench")
        self.concurrency = concurrency

    async def __aenter__(self) -> "Actor":
        await self.queue.connect()
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        enqueue = self.queue.enqueue
        for first in range(0, len(payloads), 100):
            part = payloads[first : first + 100]
            # Its JSON cannot contain bytes.
            calls = [enqueue(task) if one is None else enqueue(task, payload=one.decode()) for one in part]
            await asyncio.gather(*calls)

    async def gathered(self, task: str, count: int) -> None:
        await self.bulk(task, [None] * count)

    async def sequential(self, task: str, count: int) -> None:
        for _ in range(count):
            await self.queue.enqueue(task)

    async def round_trips(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            await self.queue.apply("noop", timeout=30)
            seconds.append(time.perf_counter() - started)
        return seconds

    async def work(self) -> None:
        worker: Any = Worker(self.queue, functions=[noop, nap, crunch], concurrency=self.concurrency)
        worker.SIGNALS = []
        await worker.start()

"""streaQ: one `Worker` object for both sides, `enqueue_many` for bulk."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from probe import ran
from streaq import Worker
from work import NAP_S
from work import crunch as compute


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        self.worker: Any = Worker(redis_url=url, concurrency=concurrency, queue_name="bench", handle_signals=False)
        task = self.worker.task

        @task
        async def noop(payload: bytes | None = None) -> None:
            ran()

        @task
        def blocking(payload: bytes | None = None) -> None:
            ran()

        @task
        async def nap(payload: bytes | None = None) -> None:
            await asyncio.sleep(NAP_S)
            ran()

        @task
        async def crunch(payload: bytes | None = None) -> None:
            compute()

        self.tasks: dict[str, Any] = {"noop": noop, "blocking": blocking, "nap": nap, "crunch": crunch}

    async def __aenter__(self) -> "Actor":
        await self.worker.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        enqueue = self.tasks[task].enqueue
        for first in range(0, len(payloads), 1000):
            part = payloads[first : first + 1000]
            await self.worker.enqueue_many([enqueue() if one is None else enqueue(one) for one in part])

    async def gathered(self, task: str, count: int) -> None:
        enqueue = self.tasks[task].enqueue

        async def one() -> None:
            await enqueue()

        for first in range(0, count, 100):
            await asyncio.gather(*[one() for _ in range(first, min(first + 100, count))])

    async def sequential(self, task: str, count: int) -> None:
        for _ in range(count):
            await self.tasks[task].enqueue()

    async def round_trips(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            job = await self.tasks["noop"].enqueue()
            await job.result(timeout=30)
            seconds.append(time.perf_counter() - started)
        return seconds

    async def work(self) -> None:
        await self.worker.run_async()

"""arq: a pool with `enqueue_job`, a worker with `max_jobs`; it has no bulk enqueue, so `gather` is
its fastest way.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from probe import ran
from work import NAP_S
from work import crunch as compute


async def noop(ctx: dict[Any, Any], payload: bytes | None = None) -> None:
    ran()


async def nap(ctx: dict[Any, Any], payload: bytes | None = None) -> None:
    await asyncio.sleep(NAP_S)
    ran()


async def crunch(ctx: dict[Any, Any], payload: bytes | None = None) -> None:
    compute()


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        self.settings = RedisSettings.from_dsn(url)
        self.concurrency = concurrency

    async def __aenter__(self) -> "Actor":
        self.pool = await create_pool(self.settings)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.pool.aclose()

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        for first in range(0, len(payloads), 100):
            part = payloads[first : first + 100]
            await asyncio.gather(*[self.pool.enqueue_job(task, *([one] if one else [])) for one in part])

    async def gathered(self, task: str, count: int) -> None:
        await self.bulk(task, [None] * count)

    async def sequential(self, task: str, count: int) -> None:
        for _ in range(count):
            await self.pool.enqueue_job(task)

    async def round_trips(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            job = await self.pool.enqueue_job("noop")
            assert job is not None
            await job.result(timeout=30, poll_delay=0.001)
            seconds.append(time.perf_counter() - started)
        return seconds

    async def work(self) -> None:
        worker = Worker(
            functions=[noop, nap, crunch],
            redis_settings=self.settings,
            max_jobs=self.concurrency,
            handle_signals=False,
            log_results=False,
        )
        await worker.async_run()

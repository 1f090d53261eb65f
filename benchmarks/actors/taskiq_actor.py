"""taskiq with taskiq-redis: the stream broker, which its documentation recommends, and the asyncio
result backend.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from probe import ran
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from work import NAP_S
from work import crunch as compute


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        self.concurrency = concurrency
        backend: Any = RedisAsyncResultBackend(url, result_ex_time=300)
        # Start at 0: a group that starts at the end of the stream would not see the jobs that were
        # enqueued before the worker started.
        self.broker = RedisStreamBroker(url, queue_name="bench", consumer_id="0").with_result_backend(backend)
        task = self.broker.task

        @task(task_name="noop")
        async def noop(payload: str | None = None) -> None:
            ran()

        @task(task_name="blocking")
        def blocking(payload: str | None = None) -> None:
            ran()

        @task(task_name="nap")
        async def nap(payload: str | None = None) -> None:
            await asyncio.sleep(NAP_S)
            ran()

        @task(task_name="crunch")
        async def crunch(payload: str | None = None) -> None:
            compute()

        self.tasks: dict[str, Any] = {"noop": noop, "blocking": blocking, "nap": nap, "crunch": crunch}

    async def __aenter__(self) -> "Actor":
        await self.broker.startup()
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        kiq = self.tasks[task].kiq
        for first in range(0, len(payloads), 100):
            part = payloads[first : first + 100]
            # Its JSON cannot contain bytes.
            await asyncio.gather(*[kiq() if one is None else kiq(one.decode()) for one in part])

    async def gathered(self, task: str, count: int) -> None:
        await self.bulk(task, [None] * count)

    async def sequential(self, task: str, count: int) -> None:
        for _ in range(count):
            await self.tasks[task].kiq()

    async def round_trips(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            job = await self.tasks["noop"].kiq()
            await job.wait_result(check_interval=0.001, timeout=30)
            seconds.append(time.perf_counter() - started)
        return seconds

    async def work(self) -> None:
        self.broker.is_worker_process = True
        await run_receiver_task(self.broker, max_async_tasks=self.concurrency, run_startup=True)

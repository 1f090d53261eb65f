"""Dramatiq: threads, with the results middleware, since all contenders store results."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend
from probe import ran
from work import NAP_S
from work import crunch as compute


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        # More threads than its default of 8 made it slower for short tasks, but naps need more.
        self.concurrency = concurrency
        self.broker = RedisBroker(url=url)
        self.broker.add_middleware(Results(backend=RedisBackend(url=url)))
        dramatiq.set_broker(self.broker)

        @dramatiq.actor(store_results=True)
        def noop(payload: str | None = None) -> None:
            ran()

        @dramatiq.actor(store_results=True)
        def nap(payload: str | None = None) -> None:
            time.sleep(NAP_S)
            ran()

        @dramatiq.actor(store_results=True)
        def crunch(payload: str | None = None) -> None:
            compute()

        self.tasks: dict[str, Any] = {"noop": noop, "blocking": noop, "nap": nap, "crunch": crunch}

    async def __aenter__(self) -> "Actor":
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        for one in payloads:
            self.tasks[task].send(*([] if one is None else [one.decode()]))

    async def sequential(self, task: str, count: int) -> None:
        await self.bulk(task, [None] * count)

    async def round_trips(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            self.tasks["noop"].send().get_result(block=True, timeout=30_000)
            seconds.append(time.perf_counter() - started)
        return seconds

    async def work(self) -> None:
        dramatiq.Worker(self.broker, worker_threads=self.concurrency).start()
        await asyncio.Event().wait()

"""ArdiQ.

`BENCH_LANES` is the number of lanes over which jobs are spread. `BENCH_PREFETCH` limits how many
jobs a worker holds.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Sequence
from typing import Any

from probe import late, ran
from work import NAP_S
from work import crunch as compute

from ardiq import Ardiq


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        self.lanes = [f"lane-{n}" for n in range(int(os.environ.get("BENCH_LANES", "0")))]
        prefetch = int(os.environ.get("BENCH_PREFETCH", "0")) or None
        # Without this setting, there is one lane, as in any app.
        self.app = app = Ardiq(url, "bench", concurrency=concurrency, prefetch=prefetch, priorities=self.lanes or None)

        @app.task
        async def noop(payload: bytes | None = None) -> None:
            ran()

        @app.task
        def blocking(payload: bytes | None = None) -> None:
            ran()

        @app.task
        async def nap(payload: bytes | None = None) -> None:
            await asyncio.sleep(NAP_S)
            ran()

        @app.task
        async def crunch(payload: bytes | None = None) -> None:
            compute()

        @app.task
        async def hold() -> None:
            ran()
            await asyncio.Event().wait()

        @app.task
        async def due(due_ms: int) -> None:
            late(due_ms)

        self.tasks: dict[str, Any] = {task.name: task for task in (noop, blocking, nap, crunch, hold, due)}

    async def __aenter__(self) -> "Actor":
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        if self.lanes:
            each = itertools.cycle([self.tasks[task].options(priority=lane).prepare for lane in self.lanes])
            await self.app.enqueue_many(next(each)() for _ in payloads)
            return
        prepare = self.tasks[task].prepare
        await self.app.enqueue_many(prepare() if one is None else prepare(one) for one in payloads)

    async def gathered(self, task: str, count: int) -> None:
        enqueue = self.tasks[task].enqueue
        for first in range(0, count, 1000):
            await asyncio.gather(*[enqueue() for _ in range(first, min(first + 1000, count))])

    async def sequential(self, task: str, count: int) -> None:
        enqueue = self.tasks[task].enqueue
        for _ in range(count):
            await enqueue()

    async def round_trips(self, count: int) -> list[float]:
        enqueue, seconds = self.tasks["noop"].enqueue, []
        for _ in range(count):
            started = time.perf_counter()
            await (await enqueue()).result(timeout=30)
            seconds.append(time.perf_counter() - started)
        return seconds

    async def delayed(self, count: int, first_ms: int, spread_ms: int) -> None:
        task, moments = self.tasks["due"], (first_ms + n * spread_ms // count for n in range(count))
        await self.app.enqueue_many(task.options(schedule_ms=moment).prepare(moment) for moment in moments)

    async def work(self) -> None:
        await self.app.run()

"""Celery: a pool of threads, Redis as broker and result backend, and late acknowledgments, which
at-least-once delivery requires.
"""

import time
from collections.abc import Sequence
from typing import Any

from celery import Celery
from probe import ran
from work import NAP_S
from work import crunch as compute


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        self.concurrency = concurrency
        self.app: Any = Celery("bench", broker=url, backend=url)
        self.app.conf.update(task_acks_late=True, worker_prefetch_multiplier=16, result_expires=300)

        @self.app.task(name="noop")  # type: ignore[untyped-decorator]
        def noop(payload: str | None = None) -> None:
            ran()

        @self.app.task(name="nap")  # type: ignore[untyped-decorator]
        def nap(payload: str | None = None) -> None:
            time.sleep(NAP_S)
            ran()

        @self.app.task(name="crunch")  # type: ignore[untyped-decorator]
        def crunch(payload: str | None = None) -> None:
            compute()

        self.tasks: dict[str, Any] = {"noop": noop, "blocking": noop, "nap": nap, "crunch": crunch}

    async def __aenter__(self) -> "Actor":
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        for one in payloads:
            self.tasks[task].delay(*([] if one is None else [one.decode()]))

    async def sequential(self, task: str, count: int) -> None:
        await self.bulk(task, [None] * count)

    async def round_trips(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            self.tasks["noop"].delay().get(timeout=30)
            seconds.append(time.perf_counter() - started)
        return seconds

    async def work(self) -> None:
        options = ["--pool=threads", f"--concurrency={self.concurrency}", "--loglevel=ERROR"]
        self.app.worker_main(["--quiet", "worker", *options, "--without-gossip", "--without-mingle"])

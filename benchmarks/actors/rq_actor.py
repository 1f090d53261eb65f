"""RQ: `SimpleWorker`, which runs jobs in its own process (the default forks for each), and
`enqueue_many` for bulk.
"""

import time
from collections.abc import Sequence

from probe import ran
from redis import Redis
from rq import Queue, SimpleWorker
from work import NAP_S
from work import crunch as compute


def noop(payload: bytes | None = None) -> None:
    ran()


def nap(payload: bytes | None = None) -> None:
    time.sleep(NAP_S)
    ran()


def crunch(payload: bytes | None = None) -> None:
    compute()


TASKS = {"noop": noop, "blocking": noop, "nap": nap, "crunch": crunch}


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        self.redis = Redis.from_url(url)
        self.queue = Queue("bench", connection=self.redis)

    async def __aenter__(self) -> "Actor":
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        for first in range(0, len(payloads), 1000):
            part = payloads[first : first + 1000]
            calls = [Queue.prepare_data(TASKS[task], () if one is None else (one,)) for one in part]
            self.queue.enqueue_many(calls)

    async def sequential(self, task: str, count: int) -> None:
        for _ in range(count):
            self.queue.enqueue(TASKS[task])

    async def round_trips(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            self.queue.enqueue(noop).latest_result(timeout=30)
            seconds.append(time.perf_counter() - started)
        return seconds

    async def work(self) -> None:
        SimpleWorker([self.queue], connection=self.redis).work(logging_level="ERROR")

"""How jobs share the turns of the event loop with everything else that runs on it."""

import asyncio
import sys
import time
from collections import Counter

import pytest

from ardiq import Ardiq
from ardiq_worker.runner import TURN_S
from tests.servers import Server

JOBS = 60


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    # One at a time, so that each job of a batch except the first starts when the previous one ends.
    return Ardiq(server.url, queue_name, concurrency=1, prefetch=JOBS, burst=True)


class Turns:
    """Counts the turns of the loop while it is entered."""

    def __init__(self) -> None:
        self.number = 0

    async def __aenter__(self) -> "Turns":
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._ticker.cancel()

    async def _tick(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 every coroutine waits for a turn to begin")
async def test_jobs_that_end_at_once_need_no_turn_each(app: Ardiq) -> None:
    turns, seen = Turns(), Counter[int]()

    @app.task
    async def short() -> None:
        seen[turns.number] += 1

    await app.enqueue_many([short.prepare() for _ in range(JOBS)])
    async with turns, asyncio.timeout(20):
        await app.run()
    assert seen.total() == JOBS
    assert len(seen) <= JOBS / 5, seen


async def test_jobs_that_compute_leave_the_loop_its_turns(app: Ardiq) -> None:
    turns, seen = Turns(), Counter[int]()

    @app.task
    async def compute() -> None:
        end = time.monotonic() + TURN_S / 2
        while time.monotonic() < end:
            pass
        seen[turns.number] += 1

    await app.enqueue_many([compute.prepare() for _ in range(JOBS)])
    async with turns, asyncio.timeout(20):
        await app.run()
    assert seen.total() == JOBS
    assert max(seen.values()) <= 3, "a turn ends when its time is up"

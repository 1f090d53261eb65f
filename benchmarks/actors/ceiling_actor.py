"""The ceiling: the queue's own scripts through the engine's own link, with neither Python nor a
work loop.

A program of the engine (`engine/examples/ceiling.rs`) does the work, and measures the time itself.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Sequence

from probe import have_run

from ardiq import Ardiq


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        self.url = url

    async def __aenter__(self) -> "Actor":
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    def seconds(self, role: str, jobs: int) -> float:
        command = [os.environ["BENCH_CEILING"], self.url, role, str(jobs)]
        said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        return float(said["seconds"])

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> float:
        return self.seconds("enqueue", len(payloads))

    async def work(self) -> None:
        jobs = await Ardiq(self.url, "bench").queue_size()
        have_run(jobs, self.seconds("drain", jobs))
        await asyncio.Event().wait()

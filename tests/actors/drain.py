"""One worker drains no-op jobs: `python -m tests.actors.drain JOBS`; prints the rate as JSON."""

import asyncio
import json
import sys
import time

from tests.actors.jobs import app, noop


async def main(jobs: int) -> None:
    for _ in range(jobs // 1000):
        await app.enqueue_many([noop.prepare() for _ in range(1000)])
    began = time.perf_counter()
    await app.run(burst=True)
    print(json.dumps({"jobs_per_s": jobs / (time.perf_counter() - began)}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

"""The tasks of `ardiq demo`: facts about files, and a few jobs that show one feature each."""

import asyncio
import hashlib
import os
import time
from pathlib import Path
from typing import TypedDict

from ardiq import Ardiq, current_task
from ardiq_cli.demo_environment import QUEUE_VARIABLE

LEASE_MS = 2000
HEARTBEAT_S = 1

app = Ardiq(
    queue_name=os.environ.get(QUEUE_VARIABLE, "ardiq-demo"),
    priorities=["default", "high"],
    idle_timeout_ms=LEASE_MS,
    concurrency=4,
)


class FileFacts(TypedDict):
    """The result of the job for one file."""

    size: int
    lines: int
    sha256: str


class Totals(TypedDict):
    """The totals of all files."""

    files: int
    size: int
    lines: int
    sha256: str


@app.task
def file_facts(path: str, pause: float) -> FileFacts:
    """Size, number of lines and SHA-256 of the file at `path`.

    It reads the file and then waits `pause` seconds, as if the disk were slow. Otherwise, no work
    would be in flight when the demo kills a worker.
    """
    content = Path(path).read_bytes()
    time.sleep(pause)
    return {"size": len(content), "lines": content.count(b"\n"), "sha256": hashlib.sha256(content).hexdigest()}


@app.task(priority="high")
def summarize(facts: tuple[FileFacts, ...]) -> Totals:
    """Add everything up. The SHA-256 is that of all the others, in order."""
    digest = hashlib.sha256("".join(fact["sha256"] for fact in facts).encode()).hexdigest()
    return {
        "files": len(facts),
        "size": sum(fact["size"] for fact in facts),
        "lines": sum(fact["lines"] for fact in facts),
        "sha256": digest,
    }


@app.task(priority="high", max_retries=5, backoff_ms=100)
async def third_time_lucky() -> int:
    """Fail twice, then return the number of the attempt."""
    context = current_task()
    tries = 0 if context is None else context.tries
    if tries < 3:
        raise ConnectionError(f"attempt {tries}: the peer closed the connection")
    return tries


@app.task
async def endless() -> None:
    """Run until somebody aborts it."""
    await asyncio.Event().wait()


@app.task
async def delayed() -> int:
    """The time, in epoch milliseconds, at which it runs."""
    return time.time_ns() // 1_000_000


@app.cron(every=HEARTBEAT_S)
async def heartbeat() -> int:
    """The time, in epoch milliseconds, at which it runs."""
    return time.time_ns() // 1_000_000

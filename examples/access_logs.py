"""A workflow: download access logs, count what is in each, and print a report.

If a log cannot be downloaded, the copy of an earlier run takes its place. If there is none, the
report says so. The workers share the directory `$LOG_DIRECTORY`, by default `logs`.

Start a worker with `ardiq run access_logs:app`, then run `python access_logs.py URL…`.
"""

import asyncio
import hashlib
import os
import re
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TypedDict

import ardiq
from ardiq import Ardiq, Job, Reject, TaskResult, current_task

DIRECTORY = Path(os.environ.get("LOG_DIRECTORY", "logs")).resolve()
CHUNK = 65536
LIMIT_S = 600

app = Ardiq(queue_name="access-logs")


class Counts(TypedDict):
    """What is in one log, or in several."""

    requests: int
    bytes: int
    statuses: dict[str, int]


class Report(TypedDict):
    """What is in all logs, and the addresses of those that are missing."""

    total: Counts
    missing: list[str]


def copy_of(url: str) -> Path:
    """Return where the copy of a log is stored."""
    return DIRECTORY / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.log"


@app.task(max_retries=2, backoff_ms=200)
def download(url: str) -> str:
    """Download a log, and return its path. The progress counts bytes."""
    if not url.startswith(("https://", "http://")):
        raise Reject(f"not a web address: {url}")
    context = current_task()
    assert context is not None
    path = copy_of(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{context.task_id}")
    with urllib.request.urlopen(url, timeout=30) as answer, unfinished.open("wb") as file:  # noqa: S310 - see above
        total = int(answer.headers.get("content-length", 0)) or None
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            context.progress_sync(file.tell(), total)
    unfinished.replace(path)
    return str(path)


@app.task(max_retries=0)
def earlier_copy(url: str) -> str:
    """Return the path of the copy that an earlier run has downloaded."""
    path = copy_of(url)
    if not path.exists():
        raise FileNotFoundError(f"{url} cannot be downloaded, and there is no earlier copy")
    return str(path)


@app.task
def count(path: str) -> Counts:
    """Count the requests, bytes and statuses in a log in the common format."""
    statuses: Counter[str] = Counter()
    size = 0
    with Path(path).open(errors="replace") as lines:
        for line in lines:
            if found := re.search(r'" (\d{3}) (\d+|-)', line):
                statuses[found[1]] += 1
                size += int(found[2]) if found[2] != "-" else 0
    return {"requests": statuses.total(), "bytes": size, "statuses": dict(statuses)}


@app.task
def add_up(parts: tuple[TaskResult[Counts], ...], *, urls: list[str]) -> Report:
    """Add up the logs that could be read."""
    read = [part.value for part in parts if part.success]
    statuses: Counter[str] = Counter()
    for one in read:
        statuses.update(one["statuses"])
    total: Counts = {
        "requests": sum(one["requests"] for one in read),
        "bytes": sum(one["bytes"] for one in read),
        "statuses": dict(sorted(statuses.items())),
    }
    missing = [url for url, part in zip(urls, parts, strict=True) if not part.success]
    return {"total": total, "missing": missing}


class Bar:
    """A progress bar over all downloads, on standard error."""

    def __init__(self, downloads: int) -> None:
        self._shares = [0.0] * downloads

    async def follow(self, number: int, job: Job[str]) -> None:
        """Show the progress of one download until it has ended."""
        async for event in job.events():
            if event.result is not None:
                self._shares[number] = 1.0
            elif event.progress is not None:
                self._shares[number] = event.progress.fraction or 0.0
            share = sum(self._shares) / len(self._shares)
            print(f"\r[{'#' * round(share * 40):40}] {share:4.0%}", end="", file=sys.stderr, flush=True)


async def main(urls: list[str]) -> int:
    """Run the workflow, and print the report. Return 1 if a log is missing, else 0."""
    downloads = [download.enqueue(url) for url in urls]
    counted = [one.otherwise(earlier_copy).then(count) for one in downloads]
    # One call enqueues the whole workflow.
    job = await ardiq.gather(*counted, on_failure="collect").then(add_up.options(unpack=False), urls=urls)
    bar = Bar(len(downloads))
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(downloads):
            group.create_task(bar.follow(number, await one))
    print(file=sys.stderr)
    result = await job.result(timeout=LIMIT_S)
    if not result.success:
        print(result.value, file=sys.stderr)
        return 1
    total = result.value["total"]
    print(f"{total['requests']} requests, {total['bytes']} bytes")
    for status, number in total["statuses"].items():
        print(f"  {status}: {number}")
    for url in result.value["missing"]:
        print(f"missing: {url}", file=sys.stderr)
    return 1 if result.value["missing"] else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python access_logs.py URL…")
    sys.exit(asyncio.run(main(sys.argv[1:])))

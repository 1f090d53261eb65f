"""Programs that end with work in flight, each in its own way:
`python -m tests.actors.exits NAME [TIMES]`.

With TIMES, the program ends that many times, in forked children, each of which finalizes its
interpreter.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable

from tests.actors import EXITS
from tests.actors.jobs import app, echo, held, noop

_kept: list[object] = []
LIMIT_S = 5.0


async def _requests() -> None:
    await asyncio.gather(*(noop.enqueue() for _ in range(50)))
    _kept.extend(asyncio.create_task(app.result(f"unknown-{number}", 3600)) for number in range(50))
    _kept.extend(asyncio.ensure_future(noop.enqueue()) for _ in range(50))
    # Large arguments are not copied: the I/O thread refers to objects of an interpreter that is
    # ending.
    _kept.extend(asyncio.ensure_future(app.ref("echo").enqueue(b"x" * 500_000)) for _ in range(10))
    await asyncio.sleep(0)


def client() -> None:
    """Requests are in flight when `asyncio.run` ends."""
    asyncio.run(_requests())


def open_loop() -> None:
    """The loop is neither run to its end nor closed."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_requests())
    _kept.append(loop)


def threads() -> None:
    """Threads wait for answers, and nothing waits for the threads."""
    for number in range(4):
        threading.Thread(target=app.result_sync, args=(f"unknown-{number}", 3600), daemon=True).start()
    echo.enqueue_sync(1)


async def _work() -> None:
    # Room for what earlier programs have returned to the queue, too.
    worker = asyncio.create_task(app.run(shutdown_grace_s=0, concurrency=1000, prefetch=1000))
    _kept.append(worker)
    await asyncio.gather(*(held.enqueue() for _ in range(4)))
    results = await asyncio.gather(*(job.result(timeout=30) for job in [await echo.enqueue(n) for n in range(20)]))
    assert len(results) == 20


def worker() -> None:
    """A worker runs when the main coroutine returns: it is cancelled, and stops gracefully."""
    asyncio.run(_work())


def worker_in_open_loop() -> None:
    """A worker's loop is no longer run."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_work())
    _kept.append(loop)


def worker_in_thread() -> None:
    """A worker runs in a thread that the interpreter does not wait for."""

    async def run() -> None:
        await app.run(shutdown_grace_s=0, concurrency=1000, prefetch=1000)

    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    held.enqueue_sync()
    assert echo.enqueue_sync(3).result_sync(30) is not None


def error() -> None:
    """An exception ends the program."""

    async def fail() -> None:
        await _requests()
        raise SystemExit(EXITS["error"])

    asyncio.run(fail())


ENDS: dict[str, Callable[[], None]] = {
    end.__name__: end for end in (client, open_loop, threads, worker, worker_in_open_loop, worker_in_thread, error)
}


def repeat(end: Callable[[], None], times: int) -> None:
    """End `times` times. Fail unless each end is clean and takes less than the limit."""
    for _ in range(times):
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            end()
            return
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seconds = time.monotonic() - began
        if code != EXITS[end.__name__] or seconds > LIMIT_S:
            sys.exit(f"{end.__name__}: ended with {code} after {seconds:.1f} s")
    print(f"ended {times} times")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        ENDS[sys.argv[1]]()
    else:
        repeat(ENDS[sys.argv[1]], int(sys.argv[2]))

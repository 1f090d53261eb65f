"""Counts the tasks that run in this process, in a file that this process and the harness map into
memory.

The tasks of every contender contain the same call, which costs about 0.1 us.
"""

import mmap
import os
import time
from pathlib import Path

COUNT, FIRST_NS, LAST_NS, FIRST_CPU_NS, TURNS, FIRST_TURNS, LATE_COUNT, LATE_US = range(8)
"""Fields of the slot, in 64-bit words.

From `LATE_US` on, it contains how late single tasks began.
"""

LATE_MOST = 1_000
"""How many of these are kept. Later tasks are only counted."""

SIZE = (LATE_US + LATE_MOST) * 8

_clock = time.monotonic_ns


def _slot() -> memoryview:
    path = os.environ.get("BENCH_PROBE")
    if path is None:  # a producer imports the tasks too, and runs none
        return memoryview(bytearray(SIZE)).cast("q")
    with Path(path).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), SIZE)).cast("q")


slot = _slot()


def ran() -> None:
    """Note that one more task has run."""
    now = _clock()
    if slot[COUNT] == 0:
        slot[FIRST_CPU_NS] = time.process_time_ns()
        slot[FIRST_TURNS] = slot[TURNS]
        slot[FIRST_NS] = now
    slot[LAST_NS] = now
    slot[COUNT] += 1


def late(due_ms: int) -> None:
    """Note that a task that was due at `due_ms` (epoch) has begun."""
    late_us = int(time.time() * 1_000_000) - due_ms * 1000
    if slot[LATE_COUNT] < LATE_MOST:
        slot[LATE_US + slot[LATE_COUNT]] = late_us
        slot[LATE_COUNT] += 1
    ran()


def turned() -> None:
    """Note that the event loop begins another turn."""
    slot[TURNS] += 1


def have_run(count: int, seconds: float) -> None:
    """Note that another program has just run `count` tasks in `seconds`, by its own clock."""
    slot[LAST_NS] = _clock()
    slot[FIRST_NS] = slot[LAST_NS] - int(seconds * 1e9)
    slot[COUNT] = count

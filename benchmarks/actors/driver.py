"""Runs one role of one contender: `driver.py ACTOR ROLE [ARGUMENT...]`.

Its output is one line of JSON.

An actor is a module with a class `Actor`. Its methods are coroutines, even for contenders without a
loop:

    Actor(url, concurrency)
    bulk(task, payloads)         enqueue one job per payload by the fastest way that its documentation shows
    gathered(task, count)        single enqueues, all in flight at the same time
    sequential(task, count)      single enqueues, one after another
    round_trips(count)           seconds from enqueue to result in hand, one after another; the role
                                 `idle_round_trips` pauses before each
    delayed(count, ms, spread)   jobs that are due at moments evenly spread over `spread` ms from `ms` (epoch) on
    work()                       run a worker until killed

Tasks are `noop`, `blocking`, `nap` and `crunch`. A contender does not define what it cannot do. If
another program does the work of `bulk` and measures the time, `bulk` returns the seconds. With
`BENCH_TURNS`, a worker's event loop counts its turns.
"""

import asyncio
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


async def _produce(actor: Any, role: str, arguments: list[str]) -> dict[str, Any]:
    if role == "bulk":
        task, count, size = arguments[0], int(arguments[1]), int(arguments[2])
        payloads = [b"x" * size if size else None] * count
        step = actor.bulk(task, payloads)
    elif role in ("gathered", "sequential"):
        step = getattr(actor, role)(arguments[0], int(arguments[1]))
    elif role == "round_trips":
        step = actor.round_trips(int(arguments[0]))
    elif role == "idle_round_trips":
        step = _idle_round_trips(actor, int(arguments[0]), float(arguments[1]))
    else:
        step = actor.delayed(*(int(argument) for argument in arguments))
    cpu, started = time.process_time(), time.perf_counter()
    answer = await step
    said: dict[str, Any] = {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    if isinstance(answer, list):
        said["each"] = answer
    elif isinstance(answer, float):
        said["seconds"] = answer
    said["rss_kb"] = _peak_kb()
    return said


async def _idle_round_trips(actor: Any, count: int, pause_s: float) -> list[float]:
    seconds: list[float] = []
    for _ in range(count):
        await asyncio.sleep(pause_s)
        seconds += await actor.round_trips(1)
    return seconds


def _peak_kb() -> int:
    """Return the largest resident size of this program.

    `getrusage` would return that of the harness if it is larger.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))


async def _main(name: str, role: str, arguments: list[str]) -> None:
    module = importlib.import_module(name)
    actor = module.Actor(os.environ["BENCH_URL"], int(os.environ.get("BENCH_CONCURRENCY", "100")))
    if role == "work":
        await actor.work()
        return
    async with actor:
        # Connected and warm before the clock starts.
        if role != "delayed":
            await actor.bulk("noop", [None])
        said = await _produce(actor, role, arguments)
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    loop_factory = importlib.import_module("turns").counting_loop if "BENCH_TURNS" in os.environ else None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_main(sys.argv[1], sys.argv[2], sys.argv[3:]))
    sys.stdout.flush()
    os._exit(0)  # some contenders leave threads behind that would wait for seconds

"""`ardiq drain`: wait until no job in a queue is waiting or running.

It only reads, and changes nothing.
"""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from ardiq_cli import streams
from ardiq_cli.exits import CommandError, ExitCode, boundary, complain
from ardiq_cli.json_text import json_text
from ardiq_cli.run import Verbose
from ardiq_cli.target import OneQueue, Url, choose_queue, look

if TYPE_CHECKING:
    from collections.abc import Callable

    from ardiq import Ardiq

_WINDOW_S = 10.0
"""The rate is that of the last ten seconds."""


def drain(
    queue: OneQueue = None,
    url: Url = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.0, help="Give up after this many seconds, with exit code 5.")
    ] = None,
    interval: Annotated[float, typer.Option("--interval", min=0.05, help="Seconds between two checks.")] = 0.5,
    verbose: Verbose = False,
) -> None:
    """Wait until no job in the queue is waiting (delayed jobs included) or running.

    Shows a progress bar on a terminal, and otherwise one JSON object per line. It never deletes
    anything. Exit code 4: there is no such queue.
    """
    with boundary(verbose=verbose):
        import asyncio
        import sys

        from ardiq_cli.terminal import take_any_text

        take_any_text()
        asyncio.run(_drain(url, queue, Bar if sys.stdout.isatty() else JsonLines, timeout, interval))


@dataclass(frozen=True)
class Look:
    """The state of the queue at one check."""

    elapsed: float
    waiting: int
    running: int
    per_second: float
    """How fast the number of unfinished jobs falls, with new ones counted.

    It is negative while the number grows.
    """

    @property
    def unfinished(self) -> int:
        return self.waiting + self.running

    @property
    def seconds_left(self) -> float | None:
        """How long the drain will take at this rate; None while the queue does not get shorter."""
        if self.unfinished == 0:
            return 0.0
        return self.unfinished / self.per_second if self.per_second > 0 else None


class Pace:
    """Turns numbers of unfinished jobs into a rate over a sliding window."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, when: float, unfinished: int) -> float:
        """Record `unfinished` at `when`, in seconds.

        Return the jobs per second since the start of the window.
        """
        self._seen.append((when, unfinished))
        while len(self._seen) > 2 and self._seen[1][0] <= when - _WINDOW_S:
            self._seen.popleft()
        then, before = self._seen[0]
        return (before - unfinished) / (when - then) if when > then else 0.0


class Report(Protocol):
    """How progress is shown."""

    def __enter__(self) -> object: ...
    def __exit__(self, *exception: object) -> None: ...
    def show(self, look: Look, *, drained: bool) -> None: ...


async def _drain(
    url: str | None, queue: str | None, kind: "Callable[[str], Report]", timeout: float | None, interval: float
) -> None:
    app = await choose_queue(url, queue)
    report = kind(app.queue_name)
    with report:
        await _wait(app, report, timeout, interval)


async def _wait(app: "Ardiq", report: Report, timeout: float | None, interval: float) -> None:
    import asyncio
    import time

    from ardiq_cli import trouble

    pace = Pace()
    start = time.monotonic()
    warned, told = False, list[str]()
    while True:
        seen = await look(app)
        elapsed = time.monotonic() - start
        waiting, running = seen["waiting"], seen["running"]
        now = Look(elapsed, waiting, running, pace.add(elapsed, waiting + running))
        try:
            report.show(now, drained=now.unfinished == 0)
        except BrokenPipeError:  # the reader has seen enough, but the queue decides when to end
            streams.discard(1)
        if now.unfinished == 0:
            return
        if not seen["workers"] and not warned:
            complain(f"no worker is running for queue {app.queue_name!r}; start one: ardiq run MODULE:APP")
            warned = True
        if not told:
            told = trouble.of_lanes(seen)
            for sentence in told:
                complain(sentence)
        rest = interval if timeout is None else min(interval, timeout - elapsed)
        if rest <= 0:
            jobs = "1 job is" if now.unfinished == 1 else f"{now.unfinished} jobs are"
            raise CommandError(
                f"{jobs} unfinished after {elapsed:.1f} s ({waiting} waiting, {running} running)",
                ExitCode.TIMEOUT,
            )
        await asyncio.sleep(rest)


class JsonLines:
    """For machines: a line per check."""

    def __init__(self, queue: str) -> None:
        self._queue = queue

    def __enter__(self) -> None: ...
    def __exit__(self, *exception: object) -> None: ...

    def show(self, look: Look, *, drained: bool) -> None:
        left = look.seconds_left
        line = {
            "queue": self._queue,
            "elapsed_s": round(look.elapsed, 3),
            "waiting": look.waiting,
            "running": look.running,
            "unfinished": look.unfinished,
            "jobs_per_s": round(look.per_second, 1),
            "left_s": None if left is None else round(left, 1),
            "drained": drained,
        }
        print(json_text(line), flush=True)


class Bar:
    """For people: a progress bar with rate and time left."""

    def __init__(self, queue: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._peak = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[pace]}"),
        )
        self._task = self._progress.add_task(f"draining {queue}", total=0, pace="")

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, look: Look, *, drained: bool) -> None:
        # Jobs may arrive meanwhile, so the total is the highest number of unfinished jobs so far.
        self._peak = max(self._peak, look.unfinished)
        left = look.seconds_left
        if drained:
            pace = f"done in {look.elapsed:.1f} s"
        elif left is None:
            pace = f"{look.waiting} waiting, {look.running} running"
        else:
            pace = f"{look.per_second:,.0f} jobs/s, {clock(left)} left"
        self._progress.update(self._task, total=self._peak, completed=self._peak - look.unfinished, pace=pace)
        self._progress.refresh()


def clock(seconds: float) -> str:
    """`75` → `1:15`; hours only where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

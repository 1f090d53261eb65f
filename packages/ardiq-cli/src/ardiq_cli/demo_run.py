"""The steps of `ardiq demo`: start workers, enqueue jobs, kill a worker, and count the results."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from ardiq import Job, TaskResult, gather
from ardiq_cli.demo_files import Input
from ardiq_cli.demo_screen import Balance, Screen
from ardiq_cli.demo_tasks import (
    HEARTBEAT_S,
    LEASE_MS,
    FileFacts,
    Totals,
    app,
    delayed,
    endless,
    file_facts,
    heartbeat,
    summarize,
    third_time_lucky,
)
from ardiq_cli.exits import CommandError
from ardiq_cli.tether import Tether
from ardiq_cli.worker import WorkerOptions
from ardiq_cli.worker_process import command_line

R = TypeVar("R")

_WORKERS = 2
_DELAY_MS = 1500
_KILL_AT = 0.4
"""The share of the files that are done when the worker is killed."""

_SLOT_SECONDS = 25.0
"""The sum of the pauses of all file jobs.

With eight slots, and four after the kill, they take about five seconds.
"""

_POLL_S = 0.05
_LOG_LINES = 20
_START_LIMIT_S = 15.0
_STOP_LIMIT_S = 5.0
_LIMIT_S = 60.0
"""Jobs without a result after this long count as lost."""


class Demo:
    """One run over the files of `source`; worker logs go to `scratch`."""

    def __init__(self, source: Input, scratch: Path) -> None:
        self._source = source
        self._scratch = scratch
        self._screen = Screen()
        self._workers: dict[int, asyncio.subprocess.Process] = {}
        self._files_done = 0
        self._half_way = asyncio.Event()

    async def run(self) -> Balance:
        """Run it, print the balance and return it."""
        found, taken = self._source.found, len(self._source.paths)
        self._screen.say(f"files in {self._source.root}: {taken}{'' if found == taken else f' of {found}'}")
        async with AsyncExitStack() as stack:
            for number in range(1, _WORKERS + 1):
                await stack.enter_async_context(self._worker(number))
            await self._await_workers()
            pids = " and ".join(str(pid) for pid in self._workers)
            self._screen.say(f"two workers, processes {pids}, lease {LEASE_MS / 1000:g} s")
            with self._screen:
                balance = await self._work()
        self._screen.close_with(balance)
        if not balance.clean:
            self._show_logs()
        return balance

    async def _work(self) -> Balance:
        started, clock = time.monotonic(), _now_ms()
        special: list[Job[Any]] = [
            await delayed.options(delay_ms=_DELAY_MS).enqueue(),
            await third_time_lucky.enqueue(),
        ]
        stuck = await endless.enqueue()
        files, aggregate = await self._submit_files()
        async with asyncio.TaskGroup() as group:
            kill = group.create_task(self._kill_a_worker())
            abort = group.create_task(self._abort(stuck, kill))
            waits = [group.create_task(self._file_result(job)) for job in files]
            special_waits = [group.create_task(_result(job)) for job in special]
        facts = [wait.result() for wait in waits]
        totals = await _result(aggregate)
        firings = await self._firings(clock)
        others = [wait.result() for wait in special_waits]
        results = [*facts, *others, totals]
        aborted = abort.result()
        sums: Totals | None = totals.value if totals is not None and totals.success else None
        return Balance(
            jobs=len(results) + 1 + firings,
            aborted=aborted,
            failed=sum(result is not None and not result.success for result in results),
            retries=sum(result.tries - 1 for result in others if result is not None),
            # No file job raises, so only the crash repeats one.
            recovered=sum(result is not None and result.tries > 1 for result in facts),
            lost=sum(result is None for result in results) + (not aborted),
            firings=firings,
            seconds=time.monotonic() - started,
            files=sums["files"] if sums else 0,
            size=sums["size"] if sums else 0,
            lines=sums["lines"] if sums else 0,
            sha256=sums["sha256"] if sums else "",
        )

    async def _submit_files(self) -> tuple[list[Job[FileFacts]], Job[Totals]]:
        """Enqueue one job per file, and one that joins them, as one workflow.

        The largest tenth of the files is served before the others, on the high lane.
        """
        paths = self._source.paths
        pause = min(_SLOT_SECONDS / len(paths), 0.5)
        by_size = sorted(paths, key=lambda path: (self._source.root / path).stat().st_size)
        large = set(by_size[len(by_size) * 9 // 10 :])
        urgent = file_facts.options(priority="high")
        members = [(urgent if path in large else file_facts).enqueue(path, pause) for path in paths]
        join = await gather(*members).then(summarize.options(unpack=False))
        return [await member for member in members], join

    async def _file_result(self, job: Job[FileFacts]) -> TaskResult[FileFacts] | None:
        result = await _result(job)
        self._files_done += 1
        total = len(self._source.paths)
        if self._files_done >= total * _KILL_AT:
            self._half_way.set()
        self._screen.show(self._files_done, total, f"{len(self._workers)} of {_WORKERS} workers alive")
        return result

    async def _kill_a_worker(self) -> None:
        """Kill the worker that is running the most jobs for files, with SIGKILL."""
        await self._half_way.wait()
        process = self._workers.pop(await self._busiest())
        process.kill()
        await process.wait()
        self._screen.say(f"killed process {process.pid} (SIGKILL); the other one takes over when its lease has expired")

    async def _abort(self, stuck: Job[None], kill: asyncio.Task[None]) -> bool:
        """Abort a job after the kill. Its worker may be the dead one."""
        await kill
        aborted = await stuck.abort(timeout=_LIMIT_S)
        self._screen.say(f"aborted the job that never ends: {'confirmed' if aborted else 'not confirmed'}")
        return aborted

    async def _busiest(self) -> int:
        """Return the process id of the worker that is running the most jobs for files; of any
        worker if all files are done.
        """
        while self._files_done < len(self._source.paths):
            running = Counter(job.worker_id for job in await app.jobs("running") if job.fn_name == file_facts.name)
            pids = {worker["id"]: worker["pid"] for worker in (await app.inspect())["workers"]}
            for worker_id, _ in running.most_common():
                if worker_id in pids:
                    return pids[worker_id]
            await asyncio.sleep(_POLL_S)
        return next(iter(self._workers))

    async def _firings(self, since_ms: int) -> int:
        """Return how often the schedule fired. The id of an occurrence follows from its time."""
        step = HEARTBEAT_S * 1000
        times = range(since_ms // step * step + step, _now_ms() + 1, step)
        found = await asyncio.gather(*(app.result(f"cron:{heartbeat.name}:{fire_ms}") for fire_ms in times))
        return sum(result is not None for result in found)

    @asynccontextmanager
    async def _worker(self, number: int) -> AsyncGenerator[None, None]:
        """Run a worker process until the block ends."""
        tether = Tether()
        options = WorkerOptions("ardiq_cli.demo_tasks:app", quiet=True)
        with self._log(number).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command_line(options, tether.argument, None),
                cwd=self._source.root,
                pass_fds=tether.fds,
                process_group=0,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._workers[process.pid] = process
        try:
            yield
        finally:
            self._workers.pop(process.pid, None)
            if process.returncode is None:
                process.terminate()
                try:
                    async with asyncio.timeout(_STOP_LIMIT_S):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
            tether.close()

    async def _await_workers(self) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        while {worker["pid"] for worker in (await app.inspect())["workers"]} != set(self._workers):
            dead = [process for process in self._workers.values() if process.returncode is not None]
            if dead or time.monotonic() > deadline:
                self._show_logs()
                raise CommandError("the demo's workers did not start; their log is above")
            await asyncio.sleep(_POLL_S)

    def _log(self, number: int) -> Path:
        return self._scratch / f"worker-{number}.log"

    def _show_logs(self) -> None:
        for number in range(1, _WORKERS + 1):
            lines: Sequence[str] = self._log(number).read_text(errors="replace").splitlines()
            for line in lines[-_LOG_LINES:]:
                self._screen.say(f"worker {number}: {line}")


async def _result(job: Job[R]) -> TaskResult[R] | None:
    """Return the result, or None if it does not arrive in time. The job then counts as lost."""
    try:
        return await job.result(timeout=_LIMIT_S)
    except TimeoutError:
        return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

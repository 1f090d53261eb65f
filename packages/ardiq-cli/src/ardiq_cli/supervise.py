"""Keeps a number of identical child processes alive, and ends them together.

The first child starts alone. If it cannot start at all (a broken import, no Redis), the others
could not either, so only this child reports the reason. Once it has reported its start, the others
follow.

The supervisor replaces a child that exits, whatever its status, after a pause that doubles if
children keep exiting soon. It does not replace a child that reported an empty queue
(`ardiq_cli.reports`). Children have separate process groups, so Ctrl-C in a terminal reaches them
once, through us, and not a second time from the kernel: a second signal means "skip the grace
period".
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ardiq_cli.exits import ExitCode
from ardiq_cli.post_mortem import describe_jobs
from ardiq_cli.reports import Reports
from ardiq_cli.signals import NEXT_SIGNALS, PASSED_ON, STOP_SIGNALS, held_back, stop_signals, survive
from ardiq_cli.tether import Tether

log = logging.getLogger("ardiq.supervisor")

_CANNOT_START = (ExitCode.USAGE, ExitCode.UNREACHABLE)
_OF_DRAINED = (ExitCode.OK, ExitCode.FAILED)
"""Exit statuses of a child that has emptied the queue: no job failed, or some did."""


@dataclass(frozen=True)
class Backoff:
    """Pauses before a respawn, in seconds."""

    first: float = 0.2
    longest: float = 30.0
    settled: float = 60.0
    """After a child that lived this long, the pauses start again from the shortest."""

    def after(self, previous: float | None, lived: float) -> float:
        """Return the next pause, given the previous one and how long the child lived after it."""
        if previous is None or lived >= self.settled:
            return self.first
        return min(previous * 2, self.longest)


Command = Callable[[str, int], Sequence[str]]
"""Returns a child's command line, given the tether's argument and the descriptor for its
reports.
"""


class Supervisor:
    """`count` children, each started by the command line that `command` returns."""

    def __init__(self, command: Command, count: int, backoff: Backoff | None = None) -> None:
        self._command = command
        self._count = count
        self._backoff = backoff or Backoff()
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._go = asyncio.Event()
        self._stopping = asyncio.Event()
        self._signals = 0
        self._tether = Tether()
        self._examinations: set[asyncio.Task[None]] = set()
        # Each examination takes the memory of a process, and the children may have died because
        # memory is short.
        self._room = asyncio.Semaphore(2)
        self._starting = asyncio.Lock()

    async def run(self) -> int:
        """Run until all children have emptied the queue or the supervisor is stopped; return the
        exit status.
        """
        loop = asyncio.get_running_loop()
        stops = stop_signals()
        survive(on_quit=lambda: loop.call_soon_threadsafe(self._pass_on, signal.SIGQUIT))
        for number in stops:
            loop.add_signal_handler(number, self._stop, number)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, self._pass_on, number)
        try:
            log.info("starting %d worker processes", self._count)
            codes = await self._keep_all()
        finally:
            for number in stops:
                loop.remove_signal_handler(number)
            self._tether.close()
            for examination in tuple(self._examinations):
                examination.cancel()
            await asyncio.gather(*self._examinations, return_exceptions=True)
        return next((code for code in codes if code != ExitCode.OK), ExitCode.OK)

    async def _keep_all(self) -> list[int]:
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._keep(1))]
            keepers[0].add_done_callback(lambda _: self._go.set())
            await self._go.wait()
            if not self._stopping.is_set():
                keepers += [group.create_task(self._keep(slot)) for slot in range(2, self._count + 1)]
        return [keeper.result() for keeper in keepers]

    def _stop(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals == 1:
            log.info(NEXT_SIGNALS)
        self._stopping.set()
        self._go.set()
        # If two signals did not end the children, because a blocked loop cannot handle signals,
        # kill them. Other workers take over their jobs.
        self._pass_on(number if self._signals <= 2 else signal.SIGKILL)

    def _pass_on(self, number: signal.Signals) -> None:
        log.info("%s: passing it on to the worker processes (%d)", number.name, len(self._children))
        for child in self._children.values():
            send_signal(child, number)

    async def _keep(self, slot: int) -> int:
        pause: float | None = None
        while True:
            started = time.monotonic()
            code, drained, serves = await self._run_child(slot)
            if self._stopping.is_set():
                return self._end_of_stopped(slot, code)
            if drained and code in _OF_DRAINED:
                log.info("worker process %d has emptied the queue", slot)
                return code
            if not self._go.is_set() and code in _CANNOT_START:
                self._stopping.set()
                return code
            self._go.set()
            pause = self._backoff.after(pause, time.monotonic() - started)
            # Jitter, so that children that died at the same time do not all come back at the same
            # time.
            seconds = pause * random.uniform(0.75, 1.25)
            log.error("worker process %d %s; starting another in %.1f s", slot, death(code), seconds)
            if serves:
                self._examine(slot, serves)
            if await self._stopped_within(seconds):
                return ExitCode.OK

    def _examine(self, slot: int, serves: dict[str, str]) -> None:
        """Log which jobs ran in a child that has died, while the next one starts."""

        async def examine() -> None:
            try:
                async with self._room:
                    jobs = await describe_jobs(serves)
            except (OSError, ValueError) as error:
                log.debug("the jobs of worker process %d cannot be looked up: %s", slot, error)
                return
            if jobs is not None:
                log.error("worker process %d: %s", slot, jobs)

        examination = asyncio.create_task(examine())
        self._examinations.add(examination)
        examination.add_done_callback(self._examinations.discard)

    async def _run_child(self, slot: int) -> tuple[int, bool, dict[str, str]]:
        """Return the child's exit status, whether it reported an empty queue, and what it
        served.
        """
        reports = Reports()
        try:
            child = await self._start_child(reports)
            self._children[slot] = child
            log.debug("worker process %d has pid %d", slot, child.pid)
            reports.watch(self._go.set)
            if self._stopping.is_set():
                # The stop came while this child was starting, so it was not signaled.
                send_signal(child, signal.SIGTERM)
            try:
                return await child.wait(), reports.drained, reports.serves
            finally:
                del self._children[slot]
        finally:
            reports.close()

    async def _start_child(self, reports: Reports) -> asyncio.subprocess.Process:
        try:
            # Start children one at a time: the signal mask belongs to the whole process, so two
            # starts would restore each other's mask.
            async with self._starting:
                # A stop signal that arrives while the child starts must end it gracefully, not in
                # the middle of an import.
                with held_back({*STOP_SIGNALS, *PASSED_ON}):
                    return await asyncio.create_subprocess_exec(
                        *self._command(self._tether.argument, reports.descriptor),
                        pass_fds=(*self._tether.fds, reports.descriptor),
                        process_group=0,
                    )
        finally:
            reports.handed_over()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    def _end_of_stopped(self, slot: int, code: int) -> int:
        # A child that was killed by the very signal that we passed on could not handle it yet.
        if code == ExitCode.OK or -code in STOP_SIGNALS:
            return ExitCode.OK
        log.error("worker process %d %s", slot, death(code))
        return ExitCode.FAILED


def send_signal(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal a child, or do nothing if it has died, even if its death has not been noticed yet.

    The `send_signal` of asyncio first asks whether the child is still alive. If the child has just
    died, that check takes its exit status away from the event loop, and `wait` returns 255 whatever
    the status was.
    """
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)


def death(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"

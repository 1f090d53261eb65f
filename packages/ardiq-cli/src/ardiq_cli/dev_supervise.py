"""Keeps the worker of `ardiq dev` running: restarts it when a file changes or when it has died.

The supervisor owns the development server, which therefore outlives every worker. It never imports
the application. The worker stays in the process group of the terminal, so that a task may read from
it (`breakpoint()`); Ctrl-C reaches both processes, and only the supervisor acts on it.
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ardiq_cli import dev_worker
from ardiq_cli.dev_watch import Sources
from ardiq_cli.exits import ExitCode, complain
from ardiq_cli.signals import NEXT_SIGNALS, PASSED_ON, STOP_SIGNALS, held_back, stop_signals, survive
from ardiq_cli.supervise import Backoff, death, send_signal
from ardiq_cli.tether import Tether
from ardiq_cli.worker import WorkerOptions

log = logging.getLogger("ardiq.dev")

_CANNOT_START = (ExitCode.USAGE, ExitCode.UNREACHABLE)
_BACKOFF = Backoff(longest=5.0)

_ANSWERS = (
    NEXT_SIGNALS,
    "second signal: running tasks are returned to the queue",
    "third signal: the worker ends at once",
)

PATIENCE_S = (1.0, 4.0)
"""After a change, running tasks have this long to finish, and then this long to be cancelled."""

MOST_FILES = 3
"""The most changed files to name."""


class DevSupervisor:
    """Runs one worker at a time.

    `start_server` is called when the first worker asks for a server.
    """

    def __init__(
        self,
        options: WorkerOptions,
        environment: dict[str, str],
        start_server: Callable[[], None],
        watched: Path | None,
    ) -> None:
        self._options = replace(options, is_supervised=True)
        self._environment = environment
        self._start_server = start_server
        self._watched = watched
        self._tether = Tether()
        self._child: asyncio.subprocess.Process | None = None
        self._has_started = False
        self._is_drained = False
        self._signals = 0
        self._must_reload = False
        self._woken = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self) -> int:
        """Run until stopped, or until the first worker cannot start; return the exit status."""
        loop = asyncio.get_running_loop()
        survive(on_quit=lambda: self._call(loop, lambda: self._pass_on(signal.SIGQUIT)))
        # Do not use `add_signal_handler`, which would restore the default action when the loop is
        # closed: the server is stopped after that. The loop wakes for these signals because of the
        # handlers below.
        for number in stop_signals():
            signal.signal(number, lambda _number, _frame: self._call(loop, self._stop))
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, self._pass_on, number)
        watching = None
        if self._watched is not None:
            watching = asyncio.create_task(self._watch(self._watched, Sources(self._watched)))
        try:
            code = await self._keep()
        finally:
            self._tether.close()
            if watching is not None:
                watching.cancel()
                await asyncio.wait([watching])
        if self._failure is not None:
            raise self._failure
        return code

    async def _keep(self) -> int:
        pause: float | None = None
        while True:
            began = time.monotonic()
            code = await self._run_child()
            if self._is_stopping():
                return ExitCode.OK if code == ExitCode.OK or -code in STOP_SIGNALS else ExitCode.FAILED
            if self._is_drained or self._failure is not None or (not self._has_started and code in _CANNOT_START):
                return code  # and the worker has logged why
            if self._must_reload:
                pause = None
            elif code == ExitCode.USAGE and self._watched is not None:
                log.error("the worker cannot start; it will be restarted when a file changes")
                await self._woken.wait()
            else:
                pause = _BACKOFF.after(pause, time.monotonic() - began)
                log.error("the worker %s; another starts in %.1f s", death(code), pause)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
            if self._is_stopping():
                return ExitCode.OK

    async def _run_child(self) -> int:
        self._woken.clear()
        self._must_reload = False
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs, held_back({*STOP_SIGNALS, *PASSED_ON}):
                self._child = child = await asyncio.create_subprocess_exec(
                    *dev_worker.command_line(self._options, self._tether.argument, theirs.fileno()),
                    pass_fds=(*self._tether.fds, theirs.fileno()),
                    env=self._environment,
                )
            if self._is_stopping():  # the stop came before the worker existed
                send_signal(child, signal.SIGTERM)
            listening = asyncio.create_task(self._listen(ours))
            try:
                return await child.wait()
            finally:
                self._child = None
                listening.cancel()
                await asyncio.wait([listening])
                self._read_rest(ours)

    async def _listen(self, worker: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while words := await loop.sock_recv(worker, 64):
                for word in words:
                    self._hear(bytes([word]), worker)

    def _read_rest(self, worker: socket.socket) -> None:
        """Read the last messages of the worker, which the task above may not have seen."""
        with suppress(OSError):
            if dev_worker.DRAINED in worker.recv(64):
                self._is_drained = True

    def _hear(self, word: bytes, worker: socket.socket) -> None:
        if word == dev_worker.NEEDS_SERVER:
            try:
                # Start it in this thread: the server is tied to the thread that starts it.
                self._start_server()
                worker.send(dev_worker.GO)
            except Exception as error:  # noqa: BLE001 - every error ends the command and is shown there
                self._failure = error
                if self._child is not None:
                    send_signal(self._child, signal.SIGKILL)
        elif word == dev_worker.STARTED:
            self._has_started = True
            # Later workers serve the same, so they need not log it again.
            self._options = replace(self._options, announces=False)
        elif word == dev_worker.DRAINED:
            self._is_drained = True

    def _is_stopping(self) -> bool:
        return self._signals > 0

    def _call(self, loop: asyncio.AbstractEventLoop, step: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the command ends anyway
            loop.call_soon_threadsafe(step)

    def _stop(self) -> None:
        self._signals += 1
        self._woken.set()
        log.info(_ANSWERS[min(self._signals, len(_ANSWERS)) - 1])
        self._pass_on(signal.SIGTERM if self._signals <= 2 else signal.SIGKILL)

    def _pass_on(self, number: signal.Signals) -> None:
        if self._child is not None:
            send_signal(self._child, number)

    async def _watch(self, root: Path, sources: Sources) -> None:
        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        try:
            async for files in sources.changes():
                self._reload(files, root)
        except Exception as error:  # noqa: BLE001 - the system refuses to watch: too many files, or no such facility
            complain(f"file changes are no longer noticed ({error}); restart `ardiq dev` after a change")
            self._watched = None

    def _reload(self, files: list[Path], root: Path) -> None:
        if self._is_stopping():
            return
        names = ", ".join(str(path.relative_to(root)) for path in files[:MOST_FILES])
        more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
        log.info("%s%s changed: restarting the worker", names, more)
        self._must_reload = True
        self._woken.set()
        child = self._child
        if child is None:
            return
        send_signal(child, signal.SIGTERM)
        # A job that does not finish soon is returned to the queue, and runs again with the new
        # code.
        loop = asyncio.get_running_loop()
        loop.call_later(PATIENCE_S[0], self._hurry, child, signal.SIGTERM)
        loop.call_later(sum(PATIENCE_S), self._hurry, child, signal.SIGKILL)

    def _hurry(self, child: asyncio.subprocess.Process, number: signal.Signals) -> None:
        if child is self._child and not self._is_stopping():
            if number is signal.SIGTERM:
                log.info("tasks that are still running after %g s are returned to the queue", PATIENCE_S[0])
            send_signal(child, number)

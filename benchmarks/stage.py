"""A server, the processes of one run, and measurements of them from outside."""

import json
import mmap
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks import texts
from benchmarks.actors import probe
from benchmarks.contenders import Contender
from tests.servers import Kind, Server

LIMIT_S = 60.0
"""A run that takes longer has failed."""

LOOK_S = 0.002
QUIET_S = 0.05
SETTLE_S = 2.0
"""How long to wait for the server to be idle. With a worker that polls, it never is."""

SLOW_US = 500
"""The server records calls that take longer, with their arguments."""

OWN = (b"INFO", b"CONFIG", b"SLOWLOG", b"FLUSHALL")
"""Commands of the stage itself."""


class RunFailed(RuntimeError):
    """A program of a run has failed, or has not ended."""


@dataclass(frozen=True)
class Counters:
    """What the server has counted so far."""

    cpu_s: float
    reads: int
    bytes_in: int
    bytes_out: int
    calls: Mapping[str, int]
    usec: Mapping[str, float]

    def since(self, before: "Counters") -> "Counters":
        """Return what has been counted between two readings."""
        return Counters(
            self.cpu_s - before.cpu_s,
            self.reads - before.reads,
            self.bytes_in - before.bytes_in,
            self.bytes_out - before.bytes_out,
            {name: count - before.calls.get(name, 0) for name, count in self.calls.items()},
            {name: usec - before.usec.get(name, 0) for name, usec in self.usec.items()},
        )


class Worker:
    """One worker process under measurement."""

    def __init__(self, process: subprocess.Popen[bytes], slot: memoryview) -> None:
        self.process = process
        self._slot = slot

    @property
    def count(self) -> int:
        """The number of tasks that it has run."""
        return self._slot[probe.COUNT]

    @property
    def first_ns(self) -> int:
        return self._slot[probe.FIRST_NS]

    @property
    def last_ns(self) -> int:
        return self._slot[probe.LAST_NS]

    @property
    def late_us(self) -> list[int]:
        """How late single delayed tasks began, in the order in which they began."""
        return list(self._slot[probe.LATE_US : probe.LATE_US + self._slot[probe.LATE_COUNT]])

    @property
    def turns(self) -> int:
        """Turns of its event loop since its first task, if it counts them."""
        return self._slot[probe.TURNS] - self._slot[probe.FIRST_TURNS]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the worker in this block.

        Afterwards it continues, so a warm worker finds a backlog.
        """
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def cpu_s(self) -> float:
        """CPU time of all its threads since its first task."""
        # The clock of another process, as clock_getcpuclockid(3) would name it.
        now = time.clock_gettime((~self.process.pid << 3) | 2) if os.uname().sysname == "Linux" else float("nan")
        return now - self._slot[probe.FIRST_CPU_NS] / 1e9

    def status(self, field: str) -> int:
        """Return a number of /proc/<pid>/status. Sizes are in kB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))

    def wake_ups(self) -> int:
        """How often one of its threads has given up the processor to wait."""
        total = 0
        for status in Path(f"/proc/{self.process.pid}/task").glob("*/status"):
            lines = status.read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
        return total


def _schedule(threads: Sequence[int], policy: int, priority: int) -> None:
    for thread in threads:
        os.sched_setscheduler(thread, policy, os.sched_param(priority))


class Stage:
    """A fresh server for one run of one contender."""

    def __init__(self, kind: Kind) -> None:
        self._server = Server(kind, options={"slowlog-log-slower-than": str(SLOW_US), "slowlog-max-len": "100000"})
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._server)
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ardiq-bench-")))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def directory(self) -> Path:
        """A directory of this run, removed at its end."""
        return self._directory

    def cli(self, *command: str | bytes | int | float) -> Any:
        """Send one command to the server."""
        return self._server.cli(*command)

    def counters(self) -> Counters:
        """What the server has counted so far."""
        client: Any = self._server.client()
        cpu_s, stats, commands = self.cpu_s(), client.info("stats"), client.info("commandstats")
        return Counters(
            cpu_s,
            stats["total_reads_processed"],
            stats["total_net_input_bytes"],
            stats["total_net_output_bytes"],
            {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in commands.items()},
            {name.removeprefix("cmdstat_"): entry["usec"] for name, entry in commands.items()},
        )

    def cpu_s(self) -> float:
        """Processor time of the server's main thread, which runs all commands, so far."""
        cpu: Any = self._server.client().info("cpu")
        return float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])

    def forget_calls(self) -> None:
        """Forget all calls: `longest_calls` then covers only later ones."""
        self.cli("SLOWLOG", "RESET")

    def longest_calls(self) -> dict[str, float]:
        """Return the longest call in milliseconds, by script or command of clients, if it took
        longer than `SLOW_US`.
        """
        noted: Any = self._server.client().slowlog_get(-1)
        longest: dict[str, float] = {}
        for one in noted:
            command = one["command"].split(b" ")
            if command[0].upper() not in OWN:
                name = texts.name_of(command)
                longest[name] = max(one["duration"] / 1000, longest.get(name, 0.0))
        return longest

    def clear(self) -> None:
        """Remove all data and all records of earlier calls from the server."""
        self.cli("FLUSHALL")
        self.forget_calls()

    @contextmanager
    def ahead(self) -> Iterator[bool]:
        """Give the server and this process real-time priority: they get a processor at once, and
        wait only for each other.

        Yields False if that is not allowed. Then nothing is changed.
        """
        if not hasattr(os, "sched_setscheduler"):
            yield False
            return
        # Programs that are started meanwhile have normal priority.
        first, ordinary = (os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, 1), (os.SCHED_OTHER, 0)
        threads = [0, *(int(thread.name) for thread in Path(f"/proc/{self._server.pid}/task").iterdir())]
        try:
            _schedule(threads, *first)
        except PermissionError:
            yield False
            return
        try:
            yield True
        finally:
            _schedule(threads, *ordinary)

    def say(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, limit_s: float = LIMIT_S
    ) -> dict[str, Any]:
        """Run a program to its end, and return its last line of JSON."""
        try:
            done = subprocess.run(command, env=self._environment(environment), capture_output=True, timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise RunFailed(f"{' '.join(command)} took more than {limit_s:g} s") from error
        if done.returncode != 0:
            raise RunFailed(f"{' '.join(command)}\n{done.stdout.decode()}{done.stderr.decode()}")
        said: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
        return said

    def produce(self, contender: Contender, role: str, *arguments: object) -> dict[str, Any]:
        """Run a producing role of a contender to its end."""
        return self.say(contender.command(role, *arguments), contender.environment)

    @contextmanager
    def worker(self, contender: Contender) -> Iterator[Worker]:
        """Start a worker process, and kill it at the end."""
        with tempfile.NamedTemporaryFile(dir=self._directory) as file:
            file.truncate(probe.SIZE)
            slot = memoryview(mmap.mmap(file.fileno(), probe.SIZE)).cast("q")
            log = self._directory / f"worker-{Path(file.name).name}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    contender.command("work"),
                    env=self._environment({**contender.environment, "BENCH_PROBE": file.name}),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            try:
                yield Worker(process, slot)
                if process.poll() is not None:
                    raise RunFailed(f"{contender.name}'s worker ended by itself:\n{log.read_text()}")
            except RunFailed as error:
                raise RunFailed(f"{error}\n{log.read_text(errors='replace')[-4000:]}") from error
            finally:
                process.kill()
                process.wait()

    def wait_for(self, workers: Sequence[Worker], count: int, limit_s: float = LIMIT_S) -> None:
        """Return when these workers have run `count` tasks in all, and the server has nothing more
        to do.
        """
        end = time.monotonic() + limit_s
        while sum(worker.count for worker in workers) < count:
            if time.monotonic() > end or any(worker.process.poll() is not None for worker in workers):
                raise RunFailed(f"{sum(worker.count for worker in workers)} of {count} tasks were run")
            time.sleep(LOOK_S)
        # The outcomes of the last ones are still in flight.
        busy, end = -1.0, time.monotonic() + SETTLE_S
        while (cpu := self.cpu_s()) - busy > 0.001 and time.monotonic() < end:
            busy = cpu
            time.sleep(QUIET_S)

    def _environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        # Byte code is written, and no optional checks are on: as a user would run it.
        plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return {**plain, "BENCH_URL": self.url, **(more or {})}

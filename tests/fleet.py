"""Workers in separate processes on one queue, and what can be observed of them from outside."""

import json
import os
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ardiq import Ardiq, TaskResult
from tests.programs import DEADLINE_S, Program, eventually
from tests.servers import Server

ROOT = Path(__file__).resolve().parents[1]


class Note(NamedTuple):
    """One line of the journal, in which a task reports about its run."""

    event: str
    job: str
    tries: int
    pid: int


class Fleet:
    """The programs of one test. `app` enqueues by name, like a service without the tasks' code.

    All programs share a journal, in which tasks note their runs, and a gate, for which the task
    `held` waits.
    """

    def __init__(self, server: Server, directory: Path, **options: Any) -> None:
        self.server = server
        self.queue = f"test-{uuid.uuid4().hex}"
        self.app = Ardiq(server.url, self.queue, **options)
        self._options = options
        self._directory = directory
        self._programs: list[Program] = []

    def environment(self, **options: Any) -> dict[str, str]:
        """Return the environment of a program. `options` are those of the app."""
        return {
            **os.environ,
            "ARDIQ_REDIS_URL": self.server.url,
            "ARDIQ_TEST_QUEUE": self.queue,
            "ARDIQ_TEST_OPTIONS": json.dumps({**self._options, **options}),
            "ARDIQ_TEST_JOURNAL": str(self._directory / "journal"),
            "ARDIQ_TEST_GATE": str(self._directory / "gate"),
        }

    def start(self, *arguments: str, **options: Any) -> Program:
        """Start a Python program."""
        log = self._directory / f"{self.queue}-{len(self._programs)}.log"
        program = Program([sys.executable, *arguments], log, ROOT, self.environment(**options))
        self._programs.append(program)
        return program

    def worker(self, **options: Any) -> Program:
        """Start a worker and wait until it serves the queue."""
        program = self.start("-m", "tests.actors.worker", **options)
        program.await_output(" serves queue ")
        eventually(lambda: str(program.pid) in self.signed_on(), f"{program.pid} has signed on")
        return program

    def command_line(self, *arguments: str, **options: Any) -> Program:
        """Start `ardiq run` with the tests' tasks."""
        return self.start("-m", "ardiq_cli", "run", "tests.actors.jobs:app", *arguments, **options)

    def signed_on(self) -> set[str]:
        """The process ids of the workers that hold a lease."""
        workers: list[bytes] = self.server.cli("ZRANGE", self.key("workers"), 0, -1)
        return {worker.decode().split(":")[1] for worker in workers}

    def key(self, name: str) -> str:
        return f"ardiq:{{{self.queue}}}:{name}"

    def pending(self, lane: str = "default") -> int:
        """Return the number of jobs that were delivered and have not been settled."""
        found = 0
        for kind in ("lane", "returned"):
            stream = self.key(f"{kind}:{lane}")
            if self.server.cli("EXISTS", stream):
                found += sum(group["pending"] for group in self.server.client().xinfo_groups(stream))
        return found

    def recorded(self) -> int:
        """Return the number of runs whose start is recorded, so that a crash counts as a try."""
        return int(self.server.cli("HLEN", self.key("running")))

    def in_tasks(self) -> int:
        """Return the number of runs that have reached the task's own code, which happens after
        their start may have been recorded.
        """
        events = [note.event for note in self.journal]
        return events.count("start") - events.count("end")

    def await_held(self, pending: int, running: int) -> None:
        """Wait until workers hold `pending` jobs and run `running` of them, according to the
        recorded starts and to the tasks.
        """
        expected = (pending, running, running)
        eventually(
            lambda: (self.pending(), self.recorded(), self.in_tasks()) == expected,
            lambda: f"{expected} delivered, recorded, noted: {(self.pending(), self.recorded(), self.in_tasks())}",
        )

    def open_gate(self) -> None:
        """Let the task `held` end."""
        (self._directory / "gate").touch()

    @property
    def journal(self) -> list[Note]:
        """Return the notes of the tasks, in order."""
        path = self._directory / "journal"
        text = path.read_text() if path.exists() else ""
        # A line that is being written may be there in part.
        notes = (line.split() for line in text.split("\n")[:-1])
        return [Note(event, job, int(tries), int(pid)) for event, job, tries, pid in notes]

    def starts(self, job: str) -> list[Note]:
        return [note for note in self.journal if note.event == "start" and note.job == job]

    def enqueue(self, name: str, *args: Any) -> str:
        return self.app.ref(name).enqueue_sync(*args).id

    def enqueue_many(self, name: str, argument_lists: Iterable[tuple[Any, ...]]) -> list[str]:
        task = self.app.ref(name)
        return [job.id for job in self.app.enqueue_many_sync([task.prepare(*args) for args in argument_lists])]

    def result(self, job: str, timeout_s: float = DEADLINE_S) -> TaskResult[Any]:
        found = self.app.result_sync(job, timeout_s)
        assert found is not None
        return found

    def results(self, jobs: Iterable[str]) -> list[TaskResult[Any]]:
        return [self.result(job) for job in jobs]

    def close(self) -> None:
        for program in self._programs:
            program.close()

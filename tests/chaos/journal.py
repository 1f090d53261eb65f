"""The journal that all processes of a run share: their actions, in order.

One line is one write with O_APPEND, so lines of many processes never mix, and a line survives the
death of its writer. Times are those of the monotonic clock, which is the same for all processes of
a machine.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple


class Note(NamedTuple):
    """One line.

    Workers note `start`, `end`, `raise`, `cancelled` and `stall`; producers `ask`, `accept`,
    `refuse` and `told`; the run itself `spawn`, `exit`, `fault` and `complaint`.
    """

    at: float
    event: str
    pid: int
    job: str = ""
    tries: int = 0
    worker: str = ""
    detail: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def __str__(self) -> str:
        about = "".join(f" {name}={value}" for name, value in self.detail.items())
        run = f" {self.job} try {self.tries} on {self.worker}" if self.worker else f" {self.job}" if self.job else ""
        return f"{self.at:.3f} [{self.pid}] {self.event}{run}{about}"


class Journal:
    """Where one process writes its lines."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, event: str, job: str = "", tries: int = 0, worker: str = "", pid: int = 0, **detail: Any) -> None:
        """Append a line; `pid` is the process that it is about, by default the one that writes
        it.
        """
        line = [time.monotonic(), event, pid or os.getpid(), job, tries, worker, detail]
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Reader:
    """Reads the journal while it grows; `notes` are all lines so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.notes: list[Note] = []

    def news(self) -> list[Note]:
        """The lines since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        fresh = [Note(*json.loads(line)) for line in whole.splitlines()]
        self.notes += fresh
        return fresh

"""Programs to start and observe in tests, with deadlines instead of pauses."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

DEADLINE_S = 30.0
POLL_S = 0.02

Condition = Callable[[], object]


def eventually(condition: Condition, what: str | Callable[[], str], deadline_s: float = DEADLINE_S) -> None:
    """Return as soon as `condition` holds. Fail after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(POLL_S)  # the pause between two looks at a condition that has a deadline


def open_files(pid: int) -> set[str]:
    """What the descriptors of a process refer to, on Linux. It may close some of them meanwhile."""
    found: set[str] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(link.readlink()))
    return found


def alive(pid: int) -> bool:
    """Whether a process `pid` runs (one that has ended and was not waited for yet does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends between opening and reading
        if Path("/proc").exists() and Path("/proc/self").exists():
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Program:
    """A child program whose output goes to a file, to be looked at while it runs."""

    def __init__(self, arguments: Sequence[str], output: Path, cwd: Path, env: Mapping[str, str]) -> None:
        self._output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                arguments, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def await_output(self, text: str, times: int = 1, deadline_s: float = DEADLINE_S) -> None:
        """Return when `text` has appeared `times` times."""

        def seen() -> bool:
            if self.output.count(text) >= times:
                return True
            if self.process.poll() is not None and self.output.count(text) < times:
                raise AssertionError(f"ended with {self.process.returncode} before it said {text!r}:\n{self.output}")
            return False

        eventually(seen, lambda: f"{text!r} in the output:\n{self.output}", deadline_s)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for the end, and return the exit status."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {deadline_s:g} s:\n{self.output}") from None

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


StartProgram = Callable[..., Program]

"""The output of `ardiq demo`: progress while it runs, and a summary at the end."""

from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ardiq.printable import printable


@dataclass
class Balance:
    """The numbers of one demo run. All of them are counted, and none is assumed."""

    jobs: int
    """Jobs that the demo enqueued, plus the firings of its cron schedule."""
    failed: int
    """Jobs that ended without success."""
    retries: int
    """Attempts after the first that followed a failed attempt."""
    recovered: int
    """Jobs that were running in the killed worker and have run again in the other one."""
    aborted: bool
    """Whether the job that never ends was aborted."""
    lost: int
    """Jobs that were enqueued but have no result."""
    firings: int
    seconds: float
    files: int
    size: int
    lines: int
    sha256: str

    @property
    def clean(self) -> bool:
        return self.lost == 0 and self.failed == 0


class Screen:
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("files", total=None, now="")
        self._tenths = 0

    def __enter__(self) -> "Screen":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print a line that stays on the screen."""
        self._console.print(printable(line), markup=False)

    def show(self, done: int, total: int, now: str) -> None:
        """Show how many jobs are done, and what is happening."""
        self._progress.update(self._task, completed=done, total=total, now=now)
        tenths = done * 10 // total
        if not self._console.is_terminal and tenths > self._tenths:
            self._tenths = tenths
            self.say(f"{done}/{total} files, {now}")

    def close_with(self, balance: Balance) -> None:
        """Print the table at the end."""
        table = Table(show_header=False, title="ardiq demo", title_justify="left")
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        rows = [
            ("jobs", f"{balance.jobs}", f"{balance.firings} of them fired by the one-second schedule"),
            ("retries", f"{balance.retries}", "of the job that fails twice"),
            ("recovered after the crash", f"{balance.recovered}", "jobs that the killed worker was running"),
            ("aborted", f"{balance.aborted:d}", "the job that never ends"),
            ("failed", f"{balance.failed}", ""),
            ("lost", f"{balance.lost}", "nothing" if balance.lost == 0 else "jobs without a result"),
            ("seconds", f"{balance.seconds:.1f}", ""),
            (
                "jobs per second",
                f"{balance.jobs / balance.seconds:.0f}",
                "mostly pauses that simulate a slow disk",
            ),
            ("files read", f"{balance.files}", f"{balance.size:,} bytes, {balance.lines:,} lines"),
            ("sha-256 of all", balance.sha256[:12], "by the job that joins those of the files"),
        ]
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

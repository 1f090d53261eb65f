"""The output of `ardiq inspect`: rich tables for people, JSON for machines."""

import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ardiq.printable import printable, printable_lines
from ardiq_cli.drain import clock
from ardiq_cli.foreign import Unknown
from ardiq_cli.json_text import json_text, python_form
from ardiq_cli.layout import LONGEST_NAME, LONGEST_WORKER_ID, Column, arrange, shorten
from ardiq_cli.terminal import take_any_text

if TYPE_CHECKING:
    from ardiq import DeadJob, TaskInfo, TaskResult
    from ardiq.inspection import LaneState, QueueState, WorkerState

Row: TypeAlias = dict[str, Any]
"""Facts about one job: JSON values, except that arguments and results may be anything."""

NOTE = Column("note", 4, wraps=True, may_be_empty=False, longest=None)
"""The last column of a table of jobs. If there is no room for it, its notes are below the table."""

_MOST_NOTES = 20

QUEUES = (
    Column("queue", 0, longest=LONGEST_NAME),
    Column("waiting", 1),
    Column("of these\nscheduled", 6),
    Column("running", 3),
    Column("dead", 4),
    Column("workers", 5),
    Column("lanes (waiting)", 2, wraps=True, longest=None),
)
QUEUE_COUNTS = (
    "waiting includes scheduled jobs, and jobs that a worker has fetched and not started. "
    "Lanes, highest first, count only what no worker has fetched."
)
WORKERS = (
    Column("queue", 6, longest=LONGEST_NAME),
    Column("worker", 0, longest=LONGEST_WORKER_ID),
    Column("host", 9),
    Column("pid", 3),
    Column("held", 5),
    Column("of these\nrunning", 1),
    Column("at once", 4),
    Column("up", 7),
    Column("lease left", 2),
    Column("lanes", 8, wraps=True, may_be_empty=False, longest=None),
    Column("version", 10),
)
JOBS = (
    Column("id", 0),
    Column("status", 1),
    Column("task", 2, wraps=True),
    Column("age", 3),
    Column("lane", 6, may_be_empty=False, longest=LONGEST_NAME),
    Column("worker", 5, may_be_empty=False, longest=LONGEST_WORKER_ID),
    Column("start", 7, may_be_empty=False),
    Column("due", 8, may_be_empty=False),
    Column("tries", 9),
    Column("enqueued", 10),
    NOTE,
)


def queue_row(name: str, state: "QueueState | None") -> list[str]:
    if state is None:
        return [name, *"?" * (len(QUEUES) - 1)]
    counts = (state["waiting"], state["scheduled"], state["running"], state["dead"], len(state["workers"]))
    lanes = ", ".join(_lane(lane, any_worker=bool(state["workers"])) for lane in state["lanes"])
    return [name, *(str(count) for count in counts), lanes]


def _lane(lane: "LaneState", *, any_worker: bool) -> str:
    unserved = any_worker and lane["workers"] == 0 and lane["waiting"] + lane["held"] > 0
    return f"{shorten(lane['lane'], LONGEST_NAME)} {lane['waiting']}{' (no worker)' if unserved else ''}"


def worker_row(queue: str, worker: "WorkerState", now_ms: int) -> list[str]:
    counts = (worker["pid"], worker["held"], worker["running"], worker["concurrency"])
    up = clock(max(0, now_ms - worker["started_ms"]) / 1000)
    left = worker["lease_left_ms"] / 1000
    lease = f"{left:.1f} s" if left >= 0 else f"expired {-left:.0f} s ago"
    lanes = ", ".join(shorten(lane, LONGEST_NAME) for lane in worker["lanes"])
    return [queue, worker["id"], worker["host"], *map(str, counts), up, lease, lanes, worker["version"]]


def job_facts(job: "TaskInfo | DeadJob", note: str = "") -> Row:
    """Return the facts about an unfinished or dead job. `note` says what is wrong with it."""
    from ardiq import DeadJob

    if isinstance(job, DeadJob):
        return {**job_facts(job.info), "status": "dead", "reason": job.reason}
    return {
        "task_id": job.task_id,
        "status": str(job.status),
        "fn_name": job.fn_name,
        "args": list(job.args),
        "kwargs": job.kwargs,
        "tries": job.tries,
        "enqueue_time": job.enqueue_time,
        "scheduled_at": job.scheduled_at,
        "headers": dict(job.headers),
        "lane": job.lane,
        "worker_id": job.worker_id,
        "start": job.start,
        "deaths": job.deaths,
        "misses": job.misses,
        "dependencies": job.dependencies,
        "dependents": job.dependents,
        "note": note,
    }


def result_facts(result: "TaskResult[Any]") -> Row:
    """Return the facts about a finished job."""
    value = result.value.args[0] if isinstance(result.value, Unknown) else result.value
    return {"status": "complete", **result._asdict(), "value": value, "duration_ms": result.duration_ms}


def job_row(job: Row, now_ms: int) -> list[str]:
    due, start = job["scheduled_at"], job["start"]
    return [
        job["task_id"],
        job["status"],
        job["fn_name"],
        age(now_ms - job["enqueue_time"]),
        job["lane"],
        job["worker_id"] or "",
        moment(start) if start is not None else "",
        moment(due) if due is not None else "",
        str(job["tries"]),
        moment(job["enqueue_time"]),
        job.get("reason", "") or job["note"],
    ]


def show(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    facts: Sequence[object],
    *,
    as_json: bool,
    notes: Sequence[str] = (),
) -> None:
    """Print several things: `facts` as a JSON array, or `rows` as a table with `notes` below it."""
    if as_json:
        print(json_text(facts, indent=2))
        return
    from rich.table import Table

    whole = [[printable(cell) for cell in row] for row in rows]
    rows = [[shorten(cell, column.longest) for column, cell in zip(columns, row, strict=True)] for row in whole]
    width = _width()
    layout = arrange(columns, rows, width)
    table = Table()
    for position, room in zip(layout.positions, layout.widths, strict=True):
        wraps = columns[position].wraps
        table.add_column(columns[position].name, width=room, no_wrap=not wraps, overflow="fold" if wraps else "ignore")
    for row in rows:
        table.add_row(*(_plain(row[position]) for position in layout.positions))
    _print(table, width=max(width, layout.width))
    lines = list(notes)
    if NOTE.title in layout.left_out:
        noted = [f"{row[0]}: {row[-1]}" for row in rows if row[-1]]
        lines += noted[:_MOST_NOTES]
        if len(noted) > _MOST_NOTES:
            lines.append(f"more notes: {len(noted) - _MOST_NOTES}")
    left_out = ", ".join(title for title in layout.left_out if title != NOTE.title)
    if left_out:
        lines.append(f"Left out: {left_out}. To see all: --json, or a terminal of {layout.needed} columns.")
    if rows != whole:
        lines.append("Values that are too long to be valid are shortened. To see all of them: --json.")
    for line in lines:
        # Break lines only between words, so that commands can be copied.
        print(textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False))


def show_one(facts: Row, *, as_json: bool) -> None:
    """Print one thing: as a JSON object, or a line per fact."""
    if as_json:
        print(json_text(facts, indent=2))
        return
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if _is_empty(value) or (name in ("deaths", "misses") and value == 0):
            continue
        if name in ("enqueue_time", "start", "finish", "scheduled_at"):
            value = moment(value) if value else "-"
        if name == "progress":
            value = progress_text(cast("Row", value))
        text = value if isinstance(value, str) else python_form(value)
        table.add_row(name, _plain(printable_lines(text) if name == "traceback" else printable(text)))
    _print(table, width=_width())


def _is_empty(value: object) -> bool:
    # Do not compare the value: its type defines what `==` does.
    return value is None or (isinstance(value, str | tuple | dict) and len(cast("Sequence[object]", value)) == 0)


def progress_text(progress: Row) -> str:
    """Return `30 of 120 (25%), at 12:00:00: reading`, as far as it is known."""
    done, total, message = progress["done"], progress["total"], progress["message"]
    text = f"{done} of {total}" if total is not None else str(done)
    text += f" ({min(100, 100 * done // total)}%)" if total else ""
    return f"{text}, at {moment(progress['updated'])}{f': {message}' if message else ''}"


def age(elapsed_ms: int) -> str:
    """`90_000` → `1 min`: the largest unit, rounded down."""
    seconds = max(0, elapsed_ms) // 1000
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def moment(epoch_ms: int) -> str:
    """Return the local time of day, with the date if it is not today's."""
    try:
        when = datetime.fromtimestamp(epoch_ms / 1000, UTC).astimezone()
    except (OverflowError, ValueError, OSError):  # this time comes from none of our clocks
        return f"{epoch_ms} ms"
    today = datetime.now(UTC).astimezone().date()
    return when.strftime("%H:%M:%S" if when.date() == today else "%Y-%m-%d %H:%M:%S")


def _plain(text: str) -> Any:  # a rich Text; the name would cost an import where no table is printed
    from rich.text import Text

    # Names and reasons come from users, so do not interpret them as markup.
    return Text(text)


def _width() -> int:
    from rich.console import Console

    # In a pipe, there is no screen, so do not cut anything to a width.
    return Console().width if sys.stdout.isatty() else 1000


def _print(table: Any, *, width: int) -> None:
    from rich.console import Console

    take_any_text()
    Console(width=width, soft_wrap=False).print(table)

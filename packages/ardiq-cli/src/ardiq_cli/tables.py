"""How `ardiq inspect` presents what it has seen: rich tables for people, JSON for machines."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ardiq.printable import printable, printable_lines
from ardiq_cli.drain import clock
from ardiq_cli.foreign import Unknown
from ardiq_cli.json_text import json_text, python_form
from ardiq_cli.terminal import take_any_text

if TYPE_CHECKING:
    from ardiq import DeadJob, TaskInfo, TaskResult
    from ardiq.inspection import QueueState, WorkerState

Row: TypeAlias = dict[str, Any]
"""Facts about one job: JSON, or nearly, for arguments and results may be anything."""

QUEUES = ("queue", "waiting", "scheduled", "running", "dead", "workers", "lanes (waiting)")
WORKERS = ("queue", "worker", "host", "pid", "running", "held", "concurrency", "up", "lease left", "version")
JOBS = ("id", "status", "task", "tries", "enqueued", "due", "reason")


def queue_row(name: str, state: "QueueState | None") -> list[str]:
    if state is None:
        return [name, *"?" * (len(QUEUES) - 1)]
    lanes = ", ".join(f"{lane['lane']} {lane['waiting']}" for lane in state["lanes"])
    counts = (state["waiting"], state["scheduled"], state["running"], state["dead"], len(state["workers"]))
    return [name, *(str(count) for count in counts), lanes]


def worker_row(queue: str, worker: "WorkerState", now_ms: int) -> list[str]:
    counts = (worker["pid"], worker["running"], worker["held"], worker["concurrency"])
    up = clock(max(0, now_ms - worker["started_ms"]) / 1000)
    lease = f"{worker['lease_left_ms'] / 1000:.1f} s"
    return [queue, worker["id"], worker["host"], *(str(count) for count in counts), up, lease, worker["version"]]


def job_facts(job: "TaskInfo | DeadJob") -> Row:
    """An unfinished or dead job."""
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
    }


def result_facts(result: "TaskResult[Any]") -> Row:
    """A finished job."""
    value = result.value.args[0] if isinstance(result.value, Unknown) else result.value
    return {"status": "complete", **result._asdict(), "value": value, "duration_ms": result.duration_ms}


def job_row(job: Row) -> list[str]:
    due = job["scheduled_at"]
    return [
        job["task_id"],
        job["status"],
        job["fn_name"],
        str(job["tries"]),
        moment(job["enqueue_time"]),
        moment(due) if due is not None else "",
        job.get("reason", ""),
    ]


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], facts: Sequence[object], *, as_json: bool) -> None:
    """Print several things: `facts` as a JSON array, or `rows` as a table."""
    if as_json:
        print(json_text(facts, indent=2))
        return
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*(_plain(printable(cell)) for cell in row))
    _print(table)


def show_one(facts: Row, *, as_json: bool) -> None:
    """Print one thing: as a JSON object, or a line per fact."""
    if as_json:
        print(json_text(facts, indent=2))
        return
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        if _is_empty(value):
            continue
        if name in ("enqueue_time", "start", "finish", "scheduled_at"):
            value = moment(value) if value else "-"
        text = value if isinstance(value, str) else python_form(value)
        table.add_row(name, _plain(printable_lines(text) if name == "traceback" else printable(text)))
    _print(table)


def _is_empty(value: object) -> bool:
    # Not by comparison, which is up to the value.
    return value is None or (isinstance(value, str | tuple | dict) and len(cast("Sequence[object]", value)) == 0)


def moment(epoch_ms: int) -> str:
    """Local time of day, with the date when it is not today's."""
    try:
        when = datetime.fromtimestamp(epoch_ms / 1000, UTC).astimezone()
    except (OverflowError, ValueError, OSError):  # no clock of ours has said so
        return f"{epoch_ms} ms"
    today = datetime.now(UTC).astimezone().date()
    return when.strftime("%H:%M:%S" if when.date() == today else "%Y-%m-%d %H:%M:%S")


def _plain(text: str) -> Any:  # a rich Text; the name would cost an import where no table is printed
    from rich.text import Text

    # Names and reasons come from users: nothing in them is markup.
    return Text(text)


def _print(table: Any) -> None:
    from rich.console import Console

    take_any_text()
    # Into a pipe nothing is cut off at a width that nobody sees.
    Console(width=None if sys.stdout.isatty() else 1000, soft_wrap=False).print(table)

"""The output of `ardiq schedule list`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ardiq_cli.banner import timing
from ardiq_cli.layout import LONGEST_NAME, Column
from ardiq_cli.tables import NOTE, moment

if TYPE_CHECKING:
    from ardiq import ScheduleInfo
    from ardiq.inspection import QueueState
    from ardiq_cli.tables import Row

SCHEDULES = (
    Column("name", 0),
    Column("when", 1, wraps=True),
    Column("next", 2),
    Column("next (UTC)", 5),
    Column("last", 4),
    Column("last job", 3),
    Column("task", 6, wraps=True),
    Column("from", 7),
    Column("lane", 8, longest=LONGEST_NAME),
    NOTE,
)


@dataclass(frozen=True)
class Listed:
    """Schedules: rows for a table, facts for machines, and notes about the list."""

    rows: list[list[str]]
    facts: "list[Row]"
    notes: list[str]


def listed(schedules: "Sequence[ScheduleInfo]", state: "QueueState") -> Listed:
    """Describe the schedules of a queue."""
    notes: list[str] = []
    if not schedules:
        notes.append("There are no schedules. Those in the code are listed when a worker has started.")
    elif not state["workers"]:
        notes.append("No worker is running, so no schedule fires. Start one: ardiq run MODULE:APP")
    return Listed([_row(one) for one in schedules], [_facts(one) for one in schedules], notes)


def _facts(one: "ScheduleInfo") -> "Row":
    return {**one._asdict(), "args": list(one.args), "last_status": one.last_status and str(one.last_status)}


def _row(one: "ScheduleInfo") -> list[str]:
    return [
        one.name,
        timing(one.spec, one.every_ms, one.tz),
        "paused" if one.paused else "-" if one.next_run is None else moment(one.next_run),
        "-" if one.next_run is None else utc(one.next_run),
        "-" if one.last_run is None else moment(one.last_run),
        _last(one),
        one.fn_name,
        "client" if one.dynamic else "code",
        one.lane,
        one.last_error or "",
    ]


def _last(one: "ScheduleInfo") -> str:
    """Describe the outcome of the last job."""
    if one.last_status is None:
        return "-"
    if one.last_success is not None:
        return "succeeded" if one.last_success else "failed"
    return "expired" if one.last_status == "not_found" else str(one.last_status)


def utc(epoch_ms: int) -> str:
    """Return the time of day in UTC, with the date if it is not today's."""
    try:
        when = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):  # this time comes from none of our clocks
        return f"{epoch_ms} ms"
    return when.strftime("%H:%M:%S" if when.date() == datetime.now(UTC).date() else "%Y-%m-%d %H:%M:%S")

"""Logs what a worker serves when it starts: server, queue, lanes, tasks and schedules."""

from collections.abc import Iterable

from ardiq import Ardiq
from ardiq.host import Host
from ardiq.options import shown
from ardiq.printable import printable
from ardiq_worker.logs import Log

log = Log("ardiq.worker")

MOST_NAMES = 50
"""The most tasks, and the most schedules, to name."""


def announce(app: Ardiq, target: str) -> None:
    """Log what a worker of `app`, which `target` names, serves.

    No line contains a user or a password.
    """
    lanes = " > ".join(reversed(app.priorities))
    log.info("serving queue %s at %s, lanes %s", app.queue_name, printable(shown(app.redis_url)), lanes)
    if not app.tasks:
        log.warning("%s has no tasks: import the modules that define tasks in the module that MODULE:APP names", target)
        return
    announce_tasks(app)
    schedules = Host(app).schedules
    if schedules:
        log.info("schedules: %s", _listed(f"{one.name} ({timing(*one.timing[:3])})" for one in schedules))


def announce_tasks(app: Ardiq) -> None:
    """Log the names of the tasks of `app`."""
    log.info("tasks: %s", _listed(app.tasks))


def timing(spec: str | None, every_ms: int | None, tz: str) -> str:
    """Describe when a schedule fires: `every 30 s`, or the expression with its time zone."""
    return f"every {every_ms / 1000:g} s" if every_ms is not None else f"{spec} {tz}"


def _listed(names: Iterable[str]) -> str:
    known = [printable(name) for name in names]
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    return ", ".join(known[:MOST_NAMES]) + more

"""The jobs around one job: those that it waits for, and those that wait for it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ardiq import Ardiq, TaskInfo
    from ardiq_cli.tables import Row

_MOST = 100
"""How many jobs are looked up, in both directions together."""

BEFORE, BEHIND = "dependencies", "dependents"


async def family_of(app: "Ardiq", info: "TaskInfo") -> "Row":
    """Return what is around an unfinished job: a list of jobs for each direction, each with its own
    list.

    A job that appears several times has a list only the first time.
    """
    seen = {info.task_id}
    return {direction: await _branch(app, getattr(info, direction), direction, seen) for direction in (BEFORE, BEHIND)}


async def _branch(app: "Ardiq", ids: tuple[str, ...], direction: str, seen: set[str]) -> "list[Row]":
    from ardiq.errors import BrokerRefusedError, SerializationError

    found: list[Row] = []
    for job_id in ids:
        row: Row = {"task_id": job_id}
        found.append(row)
        if job_id in seen or len(seen) > _MOST:
            continue
        seen.add(job_id)
        try:
            info = await app.info(job_id)
        except (BrokerRefusedError, SerializationError):  # its arguments cannot be read
            info = None
        if info is None:
            row["status"] = str(await app.status(job_id))
        else:
            row |= {"status": str(info.status), "fn_name": info.fn_name}
            row[direction] = await _branch(app, getattr(info, direction), direction, seen)
    return found


def show(family: "Row") -> None:
    """Print the two trees."""
    for direction, title in ((BEFORE, "waits for"), (BEHIND, "these wait for it")):
        if family[direction]:
            print(title)
            _print(family[direction], direction, "  ")


def _print(jobs: "list[Row]", direction: str, indent: str) -> None:
    from ardiq.printable import printable

    for position, job in enumerate(jobs):
        is_last = position == len(jobs) - 1
        facts = [printable(str(job[name])) for name in ("fn_name", "status") if job.get(name)]
        print(
            f"{indent}{'└─' if is_last else '├─'} {printable(job['task_id'])}{'  ' if facts else ''}{'  '.join(facts)}"
        )
        _print(job.get(direction, []), direction, indent + ("   " if is_last else "│  "))

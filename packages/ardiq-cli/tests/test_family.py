"""`ardiq inspect jobs ID` shows the jobs around one job as a tree."""

import json
import subprocess
from collections.abc import Callable

import pytest

import ardiq
from ardiq import Ardiq
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name)


@pytest.fixture
def inspect(ask: Ask, app: Ardiq) -> Ask:
    def inspect(*arguments: str) -> subprocess.CompletedProcess[str]:
        return ask("inspect", "jobs", *arguments, "--queue", app.queue_name, "--url", app.redis_url)

    return inspect


def test_parents_and_children_are_a_tree_with_states(app: Ardiq, inspect: Ask) -> None:
    load, merge, report, mail = map(app.ref, ("load", "merge", "report", "mail"))
    members = [load.options(task_id=f"load-{n}").enqueue(n) for n in (1, 2)]
    join = ardiq.gather(*members).then(merge.options(task_id="join"))
    last = join.then(report.options(task_id="report")).then(mail.options(task_id="mail"))
    last.enqueue_sync()
    shown = inspect("join").stdout
    tree = shown[shown.index("waits for\n") :].splitlines()
    assert tree == [
        "waits for",
        "  ├─ load-1  load  queued",
        "  └─ load-2  load  queued",
        "these wait for it",
        "  └─ report  report  scheduled",
        "     └─ mail  mail  scheduled",
    ]
    facts = json.loads(inspect("mail", "--json").stdout)
    assert facts["dependencies"] == ["report"]
    (report_row,) = facts["family"]["dependencies"]
    (join_row,) = report_row["dependencies"]
    assert [row["task_id"] for row in join_row["dependencies"]] == ["load-1", "load-2"]
    assert facts["family"]["dependents"] == []
    assert facts["note"] == "waits for report"


def test_a_job_that_stands_alone_has_no_tree(app: Ardiq, inspect: Ask) -> None:
    job = app.ref("load").enqueue_sync(1)
    assert "wait" not in inspect(job.id).stdout
    assert "family" not in json.loads(inspect(job.id, "--json").stdout)

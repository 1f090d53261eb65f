"""`ardiq schedule`: it lists, pauses, resumes, fires and removes schedules."""

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from ardiq import Ardiq, ScheduleInfo, TaskStatus
from ardiq_cli import schedule_table
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram, eventually
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
OnTerminal = Callable[..., tuple[int, str]]

TASKS = """
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})

    @app.cron("0 3 * * *", tz="Europe/Berlin")
    async def nightly(): return 1
"""


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name)


@pytest.fixture
def schedule(ask_here: Ask, app: Ardiq) -> Ask:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return ask_here("schedule", *arguments, "--queue", app.queue_name, "--url", app.redis_url)

    return run


def listed(schedule: Ask) -> dict[str, dict[str, Any]]:
    done = schedule("list", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)}


def test_dynamic_schedules_are_listed_for_people_and_machines(app: Ardiq, schedule: Ask) -> None:
    app.ref("report").options(every=90, task_id="often").enqueue_sync("x", n=1)
    app.ref("report").options(schedule="0 3 * * *", tz="Europe/Berlin", task_id="nightly").enqueue_sync()
    app.schedule("often").pause_sync()
    done = schedule("list")
    assert done.returncode == ExitCode.OK, done.stderr
    nightly, often = (line for line in done.stdout.splitlines() if "report" in line)
    assert "0 3 * * * Europe/Berlin" in nightly
    assert "client" in nightly
    assert "every 90 s" in often
    assert "paused" in often
    assert "No worker is running, so no schedule fires." in done.stdout
    facts = listed(schedule)
    assert list(facts) == ["nightly", "often"]
    one = facts["often"]
    assert (one["fn_name"], one["every_ms"], one["paused"], one["next_run"]) == ("report", 90_000, True, None)
    assert (one["args"], one["kwargs"], one["dynamic"], one["last_status"]) == (["x"], {"n": 1}, True, None)
    assert facts["nightly"]["next_run"] % 3_600_000 == 0


def test_an_empty_queue_has_a_note(app: Ardiq, schedule: Ask) -> None:
    app.ref("report").enqueue_sync()
    done = schedule("list")
    assert (done.returncode, "There are no schedules." in done.stdout) == (ExitCode.OK, True)
    assert listed(schedule) == {}


def test_a_table_for_a_narrow_terminal_leaves_columns_out(app: Ardiq, on_terminal: OnTerminal) -> None:
    app.ref("report").options(schedule="0 3 * * *", tz="Europe/Berlin", task_id="nightly").enqueue_sync()
    status, output = on_terminal("schedule", "list", "--queue", app.queue_name, "--url", app.redis_url, columns=80)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()
    assert status == ExitCode.OK
    assert max(map(len, lines)) <= 80
    assert any("nightly" in line and "Europe/Berlin" in line for line in lines)
    assert "Left out:" in output
    status, output = on_terminal("schedule", "list", "--queue", app.queue_name, "--url", app.redis_url, columns=160)
    assert "next (UTC)" in output
    assert "Left out:" not in output


def test_schedules_are_paused_resumed_and_removed(app: Ardiq, schedule: Ask) -> None:
    for name in ("a", "b"):
        app.ref("report").options(every=90, task_id=name).enqueue_sync()
    done = schedule("pause", "a", "b", "a")
    assert (done.returncode, done.stdout) == (ExitCode.OK, "a: paused\nb: paused\n")
    assert all(one["paused"] for one in listed(schedule).values())
    assert schedule("resume", "b").stdout == "b: resumed\n"
    assert not listed(schedule)["b"]["paused"]
    done = schedule("remove", "a", "--json")
    assert json.loads(done.stdout) == [{"name": "a", "outcome": "removed"}]
    assert list(listed(schedule)) == ["b"]


def test_a_schedule_is_fired_and_the_job_named(app: Ardiq, schedule: Ask) -> None:
    app.ref("report").options(every=3600, task_id="often").enqueue_sync(5)
    done = schedule("fire", "often", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    ((outcome),) = json.loads(done.stdout)
    assert (outcome["name"], outcome["outcome"]) == ("often", "enqueued")
    assert app.status_sync(outcome["task_id"]) is TaskStatus.QUEUED
    text = schedule("fire", "often").stdout
    assert text.startswith("often: enqueued cron:often:")
    assert listed(schedule)["often"]["last_status"] == "queued"


@pytest.mark.parametrize("command", ["pause", "resume", "fire", "remove"])
def test_an_unknown_schedule_is_status_4_and_the_others_are_changed(
    app: Ardiq, schedule: Ask, ask_here: Ask, command: str
) -> None:
    app.ref("report").options(every=90, task_id="a").enqueue_sync()
    done = schedule(command, "unknown", "a")
    assert done.returncode == ExitCode.NOT_FOUND
    assert done.stdout.splitlines()[0] == "unknown: there is no schedule with this name"
    assert done.stdout.splitlines()[1].startswith("a: ")
    assert done.stderr == "ardiq: not changed: 1 of 2\n"
    done = ask_here("schedule", command, "a", "--queue", f"{app.queue_name}-no", "--url", app.redis_url)
    assert done.returncode == ExitCode.NOT_FOUND
    assert "there is no queue" in done.stderr


def test_schedules_of_the_code_are_listed_and_cannot_be_removed(
    app: Ardiq, schedule: Ask, ardiq: StartProgram, module: Callable[[str], None]
) -> None:
    module(TASKS.format(queue=app.queue_name))
    worker = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=app.redis_url)
    worker.await_output("schedules: nightly (0 3 * * * Europe/Berlin)")
    eventually(lambda: schedule("list").returncode == ExitCode.OK and listed(schedule), "the schedule on the list")
    facts = listed(schedule)["nightly"]
    assert (facts["dynamic"], facts["tz"], facts["spec"]) == (False, "Europe/Berlin", "0 3 * * *")
    done = schedule("remove", "nightly")
    assert done.returncode == ExitCode.FAILED
    assert (
        "nightly: cannot be removed, because the code of a worker defines it: remove @app.cron there, or pause it"
        in done.stdout
    )
    assert schedule("pause", "nightly").returncode == ExitCode.OK
    job = app.schedule("nightly").fire_sync()
    result = job.result_sync(timeout=10)
    assert (result.success, result.value) == (True, 1)
    facts = listed(schedule)["nightly"]
    assert (facts["paused"], facts["last_task_id"], facts["last_success"]) == (True, job.id, True)
    app.ref("nightly").options(every=0.1, task_id="often").enqueue_sync()
    worker.await_output("fires the dynamic schedules often")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["pause"], "Missing argument"), (["pause", "two words"], "without spaces"), (["stop", "a"], "No such command")],
    ids=str,
)
def test_bad_arguments_are_usage_errors(schedule: Ask, arguments: list[str], message: str) -> None:
    done = schedule(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert message in done.stderr


@pytest.mark.parametrize(
    ("status", "success", "text"),
    [
        (None, None, "-"),
        (TaskStatus.QUEUED, None, "queued"),
        (TaskStatus.RUNNING, None, "running"),
        (TaskStatus.NOT_FOUND, None, "expired"),
        (TaskStatus.COMPLETE, True, "succeeded"),
        (TaskStatus.COMPLETE, False, "failed"),
    ],
)
def test_the_outcome_of_the_last_job_is_a_word(status: TaskStatus | None, success: bool | None, text: str) -> None:
    one = ScheduleInfo(
        *("a", "a", None, 5, "UTC", True, False, None, None, None, status, success, None, False, 60_000, "low", (), {})
    )
    assert schedule_table._last(one) == text

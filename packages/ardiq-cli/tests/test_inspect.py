"""`ardiq inspect`: it prints tables for people and JSON for machines, and changes nothing."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ardiq import Ardiq, Retry, current_task
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram, eventually
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
OnTerminal = Callable[..., tuple[int, str]]
Module = Callable[[str], None]


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(redis_url=server.url, queue_name=queue_name, priorities=["low", "default", "high"])


@pytest.fixture
def look(ask: Ask, app: Ardiq, server: Server) -> Callable[..., object]:
    """A function that returns the JSON of `ardiq inspect …` for the test's queue."""

    def inspect(*arguments: str) -> object:
        done = ask("inspect", *arguments, "--queue", app.queue_name, "--url", server.url, "--json")
        assert done.returncode == ExitCode.OK, done.stderr
        return json.loads(done.stdout)

    return inspect


def test_queues_counts_by_lane(app: Ardiq, look: Callable[..., list[dict[str, object]]]) -> None:
    for lane, times in (("low", 3), ("high", 2)):
        for _ in range(times):
            app.ref("some.task").options(priority=lane).enqueue_sync()
    app.ref("some.task").options(delay_ms=60_000).enqueue_sync()
    (queue,) = look("queues")
    assert queue["queue"] == app.queue_name
    assert (queue["waiting"], queue["scheduled"], queue["running"], queue["dead"]) == (6, 1, 0, 0)
    lanes = queue["lanes"]
    assert isinstance(lanes, list)
    assert {lane["lane"]: lane["waiting"] for lane in lanes if lane["waiting"]} == {"low": 3, "high": 2}


def test_queues_without_a_name_are_all_of_the_server(app: Ardiq, ask: Ask, server: Server) -> None:
    app.ref("some.task").enqueue_sync()
    other = Ardiq(redis_url=server.url, queue_name=f"{app.queue_name}-other")
    other.ref("some.task").enqueue_sync()
    names = [queue["queue"] for queue in json.loads(ask("inspect", "queues", "--json", "--url", server.url).stdout)]
    assert {app.queue_name, other.queue_name} <= set(names)
    assert names == sorted(names)


def test_url_comes_from_the_environment_too(app: Ardiq, ask: Ask, server: Server) -> None:
    app.ref("some.task").enqueue_sync()
    assert app.queue_name in ask("inspect", "queues", "--json", ARDIQ_REDIS_URL=server.url).stdout


def test_workers_are_listed_while_they_live(
    app: Ardiq, look: Callable[..., list[dict[str, object]]], ardiq: StartProgram, module: Module, server: Server
) -> None:
    app.ref("some.task").enqueue_sync()  # a queue exists from its first job on
    assert look("workers") == []
    module(f"from ardiq import Ardiq\napp = Ardiq(queue_name={app.queue_name!r}, concurrency=7)\n")
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    eventually(lambda: look("workers"), "the worker on the list")
    (worker,) = look("workers")
    assert (worker["queue"], worker["pid"], worker["concurrency"]) == (app.queue_name, program.pid, 7)
    program.process.terminate()
    assert program.end() == ExitCode.OK
    assert look("workers") == []


def test_jobs_lists_each_state(app: Ardiq, look: Callable[..., list[dict[str, object]]]) -> None:
    queued = app.ref("first").enqueue_sync(1, key="word")
    scheduled = app.ref("second").options(delay_ms=60_000).enqueue_sync()
    found = {job["task_id"]: job for job in look("jobs")}
    assert set(found) == {queued.id, scheduled.id}
    first = found[queued.id]
    assert (first["status"], first["fn_name"], first["tries"]) == ("queued", "first", 0)
    assert (first["args"], first["kwargs"]) == ([1], {"key": "word"})
    assert found[scheduled.id]["status"] == "scheduled"
    assert [job["task_id"] for job in look("jobs", "--state", "scheduled")] == [scheduled.id]
    assert look("jobs", "--state", "running", "--state", "dead") == []


def test_job_that_runs_is_listed_as_running(
    app: Ardiq,
    look: Callable[..., list[dict[str, object]]],
    ardiq: StartProgram,
    module: Module,
    server: Server,
    on_terminal: OnTerminal,
) -> None:
    module(f"""
        import asyncio
        from ardiq import Ardiq
        app = Ardiq(queue_name={app.queue_name!r}, priorities=["low", "default", "high"])
        @app.task
        async def hold(): await asyncio.sleep(600)
    """)
    job = app.ref("hold").enqueue_sync()
    program = ardiq("run", "tasks:app", "--grace", "0", ARDIQ_REDIS_URL=server.url)
    eventually(lambda: look("jobs", "--state", "running"), "the job among those that run")
    (found,) = look("jobs")
    assert (found["task_id"], found["status"], found["tries"]) == (job.id, "running", 1)
    (queue,) = look("queues")
    assert (queue["running"], queue["waiting"], queue["unfinished"]) == (1, 0, 1)
    status, screen = on_terminal("inspect", "workers", "--queue", app.queue_name, "--url", server.url)
    assert status == ExitCode.OK
    assert str(program.pid) in screen
    assert "lease left" in screen
    program.process.terminate()
    assert program.end() == ExitCode.OK


def test_jobs_keeps_to_its_limit(app: Ardiq, look: Callable[..., list[object]]) -> None:
    for _ in range(5):
        app.ref("some.task").enqueue_sync()
    assert len(look("jobs", "--limit", "3")) == 3


def test_dead_job_is_listed_with_its_reason(
    app: Ardiq, look: Callable[..., list[dict[str, object]]], ask: Ask, module: Module, server: Server
) -> None:
    strange = Ardiq(
        redis_url=server.url,
        queue_name=app.queue_name,
        serializer=lambda _value: b"\xc1 is no msgpack",
        deserializer=lambda data: data,
    )
    job = strange.ref("some.task").enqueue_sync()
    module(f"""
        from ardiq import Ardiq
        app = Ardiq(queue_name={app.queue_name!r})
        @app.task(name="some.task")
        async def some_task(): ...
    """)
    ask("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    (dead,) = look("jobs", "--state", "dead")
    assert (dead["task_id"], dead["status"]) == (job.id, "dead")
    assert "cannot be decoded" in str(dead["reason"])


def test_one_job_before_and_after_its_run(
    app: Ardiq, look: Callable[..., dict[str, object]], ask: Ask, module: Module, server: Server
) -> None:
    job = app.ref("double").enqueue_sync(21)
    assert look("jobs", job.id)["status"] == "queued"
    module(f"""
        from ardiq import Ardiq
        app = Ardiq(queue_name={app.queue_name!r})
        @app.task
        async def double(n): return 2 * n
    """)
    ask("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    found = look("jobs", job.id)
    assert (found["status"], found["success"], found["value"], found["tries"]) == ("complete", True, 42, 1)


def test_what_json_has_no_form_for_is_shown_as_python_writes_it(
    app: Ardiq, look: Callable[..., dict[str, object]]
) -> None:
    job = app.ref("some.task").enqueue_sync(b"\x00", when=datetime(2026, 1, 1, tzinfo=UTC))
    found = look("jobs", job.id)
    assert found["args"] == [repr(b"\x00")]
    assert found["kwargs"] == {"when": repr(datetime(2026, 1, 1, tzinfo=UTC))}


def test_one_job_in_words(app: Ardiq, ask: Ask, server: Server) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    def say(job: str) -> dict[str, str]:
        done = ask("inspect", "jobs", job, "--queue", app.queue_name, "--url", server.url)
        assert done.returncode == ExitCode.OK, done.stderr
        lines = (line.split(maxsplit=1) for line in done.stdout.splitlines())
        return {name: rest.strip() for name, rest in lines}

    job = double.enqueue_sync(21)
    assert {"status": "queued", "fn_name": "double", "args": "[21]", "tries": "0"}.items() <= say(job.id).items()
    asyncio.run(app.run(burst=True))
    assert {"status": "complete", "success": "True", "value": "42", "tries": "1"}.items() <= say(job.id).items()


def test_unknown_job_is_status_4(app: Ardiq, ask: Ask, server: Server) -> None:
    app.ref("some.task").enqueue_sync()
    done = ask("inspect", "jobs", "no-such-job", "--queue", app.queue_name, "--url", server.url)
    assert done.returncode == ExitCode.NOT_FOUND
    assert done.stderr.count("\n") == 1
    assert "no-such-job" in done.stderr


def test_looking_changes_nothing(app: Ardiq, look: Callable[..., object], server: Server) -> None:
    job = app.ref("some.task").enqueue_sync()
    before = {key: server.cli("DUMP", key) for key in server.cli("KEYS", f"ardiq:{{{app.queue_name}}}:*")}
    for question in (("queues",), ("workers",), ("jobs",), ("jobs", job.id)):
        look(*question)
    after = {key: server.cli("DUMP", key) for key in server.cli("KEYS", f"ardiq:{{{app.queue_name}}}:*")}
    assert after == before


def test_table_on_a_terminal(app: Ardiq, on_terminal: OnTerminal, server: Server) -> None:
    job = app.ref("[red]no-markup[/red]").enqueue_sync()
    status, screen = on_terminal("inspect", "jobs", "--queue", app.queue_name, "--url", server.url)
    assert status == ExitCode.OK
    assert job.id in screen
    assert "[red]no-markup[/red]" in screen
    assert "│" in screen
    status, screen = on_terminal("inspect", "queues", "--queue", app.queue_name, "--url", server.url)
    assert status == ExitCode.OK
    assert "waiting" in screen


def test_table_in_a_pipe_is_not_cut_off(app: Ardiq, ask: Ask, server: Server) -> None:
    name = "a.task.with.a.name." + "x" * 150
    app.ref(name).enqueue_sync()
    done = ask("inspect", "jobs", "--queue", app.queue_name, "--url", server.url)
    assert name in done.stdout
    assert "\x1b" not in done.stdout


def test_one_job_shows_its_progress(
    app: Ardiq, look: Callable[..., dict[str, object]], ask: Ask, server: Server
) -> None:
    @app.task(max_retries=1)
    async def work() -> None:
        context = current_task()
        assert context is not None
        await context.progress(30, 120, "reading\x1b[31m")
        app.stop()
        raise Retry(delay_ms=3_600_000)

    job = work.enqueue_sync()
    assert look("jobs", job.id)["progress"] is None
    asyncio.run(app.run())
    progress = look("jobs", job.id)["progress"]
    assert isinstance(progress, dict)
    assert progress["updated"] > 1_600_000_000_000
    assert {**progress, "updated": 0} == {"done": 30, "total": 120, "message": "reading\x1b[31m", "updated": 0}
    shown = ask("inspect", "jobs", job.id, "--queue", app.queue_name, "--url", server.url).stdout
    assert "30 of 120 (25%), at " in shown
    assert "reading" in shown
    assert "\x1b" not in shown

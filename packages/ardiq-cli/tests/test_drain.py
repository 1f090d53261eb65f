"""`ardiq drain`: it waits, shows its progress, and deletes nothing."""

import json
import os
import re
import subprocess
from collections.abc import Callable

import pytest

from ardiq import Ardiq, TaskStatus
from ardiq_cli.drain import Look, Pace, clock
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
OnTerminal = Callable[..., tuple[int, str]]
Module = Callable[[str], None]


@pytest.fixture
def app(server: Server, queue_name: str, module: Module) -> Ardiq:
    module(f"""
        import asyncio
        from ardiq import Ardiq
        app = Ardiq(queue_name={queue_name!r}, concurrency=4)
        @app.task
        async def nap(seconds): await asyncio.sleep(seconds)
    """)
    return Ardiq(redis_url=server.url, queue_name=queue_name)


def test_empty_queue_is_drained_at_once(app: Ardiq, ask: Ask, server: Server) -> None:
    app.ref("nap").enqueue_sync(0)
    assert ask("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url).returncode == ExitCode.OK
    done = ask("drain", "--queue", app.queue_name, "--url", server.url)
    assert done.returncode == ExitCode.OK
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (line["unfinished"], line["drained"]) == (0, True)


def test_lines_in_a_pipe_until_nothing_waits_or_runs(app: Ardiq, ardiq: StartProgram, server: Server) -> None:
    jobs = [app.ref("nap").enqueue_sync(0.2) for _ in range(30)]
    later = app.ref("nap").options(delay_ms=1500).enqueue_sync(0.1)
    drain = ardiq("drain", "--queue", app.queue_name, "--url", server.url, "--interval", "0.1")
    drain.await_output('"unfinished"')
    ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    assert drain.end() == ExitCode.OK, drain.output
    lines = [json.loads(line) for line in drain.output.splitlines() if line.startswith("{")]
    assert all(line["unfinished"] == line["waiting"] + line["running"] for line in lines)
    assert [line["drained"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert any(line["jobs_per_s"] > 0 and line["left_s"] for line in lines)
    assert all(job.status_sync() is TaskStatus.COMPLETE for job in [*jobs, later])


def test_timeout_is_status_5_and_nothing_is_deleted(app: Ardiq, ask: Ask, server: Server) -> None:
    job = app.ref("nap").enqueue_sync(0)
    app.ref("nap").options(delay_ms=3_600_000, unique=True).enqueue_sync(0)
    before = {key: server.cli("DUMP", key) for key in server.cli("KEYS", f"ardiq:{{{app.queue_name}}}:*")}
    done = ask("drain", "--queue", app.queue_name, "--url", server.url, "--timeout", "0.3", "--interval", "0.1")
    assert done.returncode == ExitCode.TIMEOUT
    assert "2 jobs are unfinished after 0." in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["drained"] is False
    assert job.status_sync() is TaskStatus.QUEUED
    assert {key: server.cli("DUMP", key) for key in server.cli("KEYS", f"ardiq:{{{app.queue_name}}}:*")} == before


def test_queue_without_a_worker_is_mentioned_once(app: Ardiq, ask: Ask, server: Server) -> None:
    app.ref("nap").enqueue_sync(0)
    done = ask("drain", "--queue", app.queue_name, "--url", server.url, "--timeout", "0.3", "--interval", "0.1")
    assert done.stderr.count("no worker is running") == 1


def test_progress_bar_on_a_terminal(app: Ardiq, ardiq: StartProgram, on_terminal: OnTerminal, server: Server) -> None:
    for _ in range(40):
        app.ref("nap").enqueue_sync(0.2)
    worker = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    worker.await_output(" serves ")
    status, screen = on_terminal("drain", "--queue", app.queue_name, "--url", server.url, "--interval", "0.2")
    assert status == ExitCode.OK
    assert f"draining {app.queue_name}" in screen
    assert re.search(r"\d jobs/s, 0:\d\d left", screen)
    total = max(int(found) for found in re.findall(r"\d+/(\d+)", screen))
    assert f"{total}/{total}" in screen
    assert "done in" in screen
    assert "{" not in screen


def test_interrupt_ends_the_wait(app: Ardiq, ardiq: StartProgram, server: Server) -> None:
    app.ref("nap").enqueue_sync(0)
    program = ardiq("drain", "--queue", app.queue_name, "--url", server.url)
    program.await_output('"drained": false')
    os.killpg(program.pid, 2)
    assert program.end() == ExitCode.INTERRUPTED
    assert "Traceback" not in program.output


def test_rate_is_that_of_the_last_ten_seconds() -> None:
    pace = Pace()
    assert pace.add(0, 1000) == 0
    assert pace.add(1, 900) == 100
    assert pace.add(5, 500) == 100
    # Nothing has finished since then. After ten seconds, the quick start no longer counts.
    assert pace.add(10, 500) == 50
    assert pace.add(15, 500) == 0
    assert pace.add(16, 600) < 0


def test_time_left_is_unknown_while_the_queue_grows() -> None:
    assert Look(1, waiting=10, running=5, per_second=3).seconds_left == 5
    assert Look(1, waiting=10, running=5, per_second=0).seconds_left is None
    assert Look(1, waiting=10, running=5, per_second=-2).seconds_left is None
    assert Look(1, waiting=0, running=0, per_second=0).seconds_left == 0


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75, "1:15"), (3600, "1:00:00"), (59.7, "1:00")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text

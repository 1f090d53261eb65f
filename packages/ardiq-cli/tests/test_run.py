"""`ardiq run` with real workers: burst, stop signals, several processes."""

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq, TaskStatus
from ardiq_cli.exits import ExitCode
from tests.programs import Program, StartProgram, alive, eventually
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
Module = Callable[[str], None]

TASKS = """
    import asyncio, os, pathlib
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r}, idle_timeout_ms=2000)

    @app.task(max_retries=0)
    async def add(a, b):
        return a + b

    @app.task(max_retries=0)
    async def nap(mark, seconds):
        pathlib.Path(mark).touch()
        await asyncio.sleep(seconds)
        return seconds

    @app.task
    async def pid():
        return os.getpid()

    @app.task(max_retries=0)
    def leave():
        os._exit(0)
"""


@pytest.fixture
def app(server: Server, queue_name: str, module: Module) -> Ardiq:
    """An app for the queue whose tasks are in the project's `tasks.py`."""
    module(TASKS.format(queue=queue_name))
    return Ardiq(redis_url=server.url, queue_name=queue_name)


def workers_of(program: Program) -> list[int]:
    """Process ids of the workers that have started."""
    return [int(pid) for pid in re.findall(r"\[(\d+)\] ardiq\.worker: worker \S+ serves", program.output)]


def test_burst_ends_when_the_queue_is_empty(app: Ardiq, server: Server, ask: Ask) -> None:
    jobs = [app.ref("add").enqueue_sync(n, 1) for n in range(20)]
    later = app.ref("add").options(delay_ms=300).enqueue_sync(1, 1)
    done = ask("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    assert done.returncode == ExitCode.OK, done.stderr
    assert [result.value for job in jobs if (result := job.result_sync())] == list(range(1, 21))
    assert later.status_sync() is TaskStatus.COMPLETE


@pytest.mark.parametrize("processes", ["1", "2"])
def test_burst_says_that_jobs_failed(processes: str, app: Ardiq, server: Server, ask: Ask) -> None:
    app.ref("add").enqueue_sync(1, "one")
    done = ask("run", "tasks:app", "--burst", "--workers", processes, ARDIQ_REDIS_URL=server.url)
    assert done.returncode == ExitCode.FAILED
    assert "jobs failed: 1" in done.stderr


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("gone", [True, False], ids=["arguments gone", "undecodable"])
def test_burst_counts_dead_letters_once(processes: str, gone: bool, app: Ardiq, server: Server, ask: Ask) -> None:
    app.ref("add").enqueue_sync("x" * 10_000, "y")
    (body,) = server.cli("KEYS", f"ardiq:{{{app.queue_name}}}:body:*")
    if gone:
        server.cli("DEL", body)
    else:
        server.cli("SET", body, b"not a call" + bytes(10_000))
    done = ask("run", "tasks:app", "--burst", "--workers", processes, ARDIQ_REDIS_URL=server.url)
    assert "is now a dead letter" in done.stderr
    assert done.returncode == ExitCode.FAILED
    assert "jobs failed: 1" in done.stderr


def test_burst_with_several_processes(app: Ardiq, server: Server, ask: Ask) -> None:
    jobs = [app.ref("add").enqueue_sync(n, 1) for n in range(50)]
    done = ask("run", "tasks:app", "-b", "-w", "2", ARDIQ_REDIS_URL=server.url)
    assert done.returncode == ExitCode.OK, done.stderr
    assert all(job.status_sync() is TaskStatus.COMPLETE for job in jobs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_stop_signal_lets_running_tasks_finish(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, number: signal.Signals, workers: str
) -> None:
    program = ardiq("run", "tasks:app", "-w", workers, ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", int(workers))
    job = app.ref("nap").enqueue_sync("started", 1.0)
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(number)
    assert program.end() == ExitCode.OK
    result = job.result_sync()
    assert result is not None
    assert (result.success, result.value, result.tries) == (True, 1.0, 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_second_signal_skips_the_grace_period(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, workers: str
) -> None:
    program = ardiq("run", "tasks:app", "-w", workers, ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", int(workers))
    job = app.ref("nap").enqueue_sync("started", 600.0)
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGTERM)
    program.await_output(" 30 s to finish", int(workers))
    program.send(signal.SIGTERM)
    assert program.end(15) == ExitCode.OK
    # It was returned to the queue: another worker may run it at once, and no try was spent.
    info = job.info_sync()
    assert info is not None
    assert (info.status, info.tries) == (TaskStatus.QUEUED, 0)


def test_grace_bounds_the_stop(app: Ardiq, server: Server, ardiq: StartProgram, project: Path) -> None:
    program = ardiq("run", "tasks:app", "--grace", "0.2", ARDIQ_REDIS_URL=server.url)
    job = app.ref("nap").enqueue_sync("started", 600.0)
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGTERM)
    assert program.end(15) == ExitCode.OK
    assert "1 running task has 0.2 s to finish" in program.output
    assert job.status_sync() is TaskStatus.QUEUED


@pytest.mark.parametrize("options", [("-c", "3", "-w", "2"), ("--concurrency", "3", "--workers", "2")])
def test_options_reach_the_worker(app: Ardiq, server: Server, ardiq: StartProgram, options: tuple[str, ...]) -> None:
    program = ardiq("run", "tasks:app", *options, ARDIQ_REDIS_URL=server.url)
    program.await_output("concurrency 3,", 2)
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


@pytest.mark.parametrize("option", ["--quiet", "-q"])
def test_quiet_says_nothing_of_a_good_run(app: Ardiq, server: Server, ask: Ask, option: str) -> None:
    app.ref("add").enqueue_sync(1, 1)
    done = ask("run", "tasks:app", "--burst", option, ARDIQ_REDIS_URL=server.url)
    # The test's server does not save its data, which causes a warning.
    said = [line for line in done.stderr.splitlines() if "append-only" not in line]
    assert (done.returncode, done.stdout, said) == (ExitCode.OK, "", [])


def test_each_of_several_processes_is_told_every_option(app: Ardiq, server: Server, ask: Ask) -> None:
    job = app.ref("add").enqueue_sync(1, 1)
    options = ("--burst", "--concurrency", "3", "--verbose", "--log-format", "json")
    done = ask("run", "tasks:app", "--workers", "2", *options, ARDIQ_REDIS_URL=server.url)
    assert done.returncode == ExitCode.OK, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    serving = [line["pid"] for line in lines if "concurrency 3," in line["message"]]
    assert len(set(serving)) == 2
    assert [line["pid"] in serving for line in lines if f"add[{job.id}] finished" in line["message"]] == [True]


def test_quiet_still_says_what_failed(app: Ardiq, server: Server, ask: Ask) -> None:
    app.ref("add").enqueue_sync(1, "one")
    done = ask("run", "tasks:app", "--burst", "--quiet", ARDIQ_REDIS_URL=server.url)
    assert done.returncode == ExitCode.FAILED
    assert "failed on attempt 1 of 1" in done.stderr


@pytest.mark.parametrize("option", ["--verbose", "-v"])
def test_verbose_names_every_job(app: Ardiq, server: Server, ask: Ask, option: str) -> None:
    job = app.ref("add").enqueue_sync(1, 1)
    done = ask("run", "tasks:app", "--burst", option, "--log-format", "json", ARDIQ_REDIS_URL=server.url)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(line["level"] == "debug" and job.id in line["message"] for line in lines)


def test_killed_worker_process_is_replaced_and_its_work_redone(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path
) -> None:
    program = ardiq("run", "tasks:app", "-w", "2", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", 2)
    job = app.ref("nap").enqueue_sync("started", 3.0)
    eventually(lambda: (project / "started").exists(), "the start of the task")

    def holder() -> int | None:
        workers = asyncio.run(app.inspect())["workers"]
        return next((worker["pid"] for worker in workers if worker["running"]), None)

    eventually(holder, "a worker that says it runs the task")
    victim = holder()
    assert victim in workers_of(program)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    program.await_output(" serves ", 3)
    assert "was killed by SIGKILL; starting another" in program.output
    result = job.result_sync(timeout=20)
    assert result is not None
    assert result.success
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


def test_process_that_a_task_ends_with_status_0_is_replaced(app: Ardiq, server: Server, ardiq: StartProgram) -> None:
    program = ardiq("run", "tasks:app", "-w", "2", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", 2)
    app.ref("leave").enqueue_sync()
    program.await_output("ended with status 0; starting another")
    job = app.ref("add").enqueue_sync(1, 1)
    result = job.result_sync(timeout=20)
    assert result is not None
    assert result.value == 2
    program.await_output(" serves ", 3)
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


def test_burst_goes_on_when_a_task_ends_its_process_with_status_0(app: Ardiq, server: Server, ask: Ask) -> None:
    leaving = app.ref("leave").enqueue_sync()
    jobs = [app.ref("add").enqueue_sync(n, 1) for n in range(20)]
    done = ask("run", "tasks:app", "-b", "-w", "2", ARDIQ_REDIS_URL=server.url)
    assert "ended with status 0; starting another" in done.stderr
    assert all(job.status_sync() is TaskStatus.COMPLETE for job in [*jobs, leaving])


def test_workers_die_with_a_killed_supervisor(app: Ardiq, server: Server, ardiq: StartProgram) -> None:
    program = ardiq("run", "tasks:app", "-w", "2", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", 2)
    pids = workers_of(program)
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    program.send(signal.SIGKILL)
    program.end()
    eventually(lambda: not any(alive(pid) for pid in pids), "the end of the workers")


def test_signal_during_the_import_is_a_stop(ardiq: StartProgram, module: Module) -> None:
    module("import threading\nprint('importing', flush=True)\nthreading.Event().wait()\n")
    program = ardiq("run", "tasks:app")
    program.await_output("importing")
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


def test_run_starts_no_server(ask: Ask, module: Module, project: Path) -> None:
    module("from ardiq import Ardiq\napp = Ardiq()\n")
    assert ask("run", "tasks:app").returncode == ExitCode.UNREACHABLE
    assert not (project / ".ardiq").exists()

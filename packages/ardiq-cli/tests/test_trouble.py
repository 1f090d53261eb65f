"""The log and `ardiq inspect` show problems, with what to do about them."""

import json
import re
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from tests.programs import Program, StartProgram, eventually
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
Module = Callable[[str], None]
MakeServer = Callable[..., Server]


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """A separate server, because commands without `--queue` read all queues."""
    return make_server()


@pytest.fixture
def app(server: Server, module: Module) -> Ardiq:
    """The producer's side of an application that also knows a lane which the worker does not
    serve.
    """
    module("""
        import asyncio
        from ardiq import Ardiq
        app = Ardiq(queue_name="shop", priorities=["low", "default", "high"], idle_timeout_ms=2000)
        @app.task
        async def hold(): await asyncio.sleep(600)
        @app.task
        async def fine(): return "fine"
    """)
    return Ardiq(redis_url=server.url, queue_name="shop", priorities=["urgent", "low", "default", "high"])


@pytest.fixture
def work(ardiq: StartProgram, server: Server) -> StartProgram:
    """A function that starts `ardiq run` with options."""
    return lambda *options: ardiq("run", "tasks:app", "--grace", "0", *options, ARDIQ_REDIS_URL=server.url)


@pytest.fixture
def look(ask_here: Ask, server: Server) -> Ask:
    """A function that runs `ardiq inspect …` and returns its output for people."""

    def inspect(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = ask_here("inspect", *arguments, "--url", server.url)
        assert done.returncode == ExitCode.OK, done.stderr
        return done

    return inspect


def stop(worker: Program) -> None:
    worker.send(signal.SIGTERM)
    assert worker.end() == ExitCode.OK, worker.output


def test_a_queue_without_a_worker_is_mentioned_with_the_command_that_starts_one(app: Ardiq, look: Ask) -> None:
    app.ref("fine").enqueue_sync()
    note = "queue shop: 1 job is waiting and no worker is running. Start one: ardiq run MODULE:APP"
    assert f"{note}\n" in look("queues").stdout
    (found,) = json.loads(look("queues", "--json").stdout)
    assert found["trouble"] == [note]


def test_lanes_come_in_their_order_and_one_that_no_worker_serves_is_seen(
    app: Ardiq, look: Ask, work: StartProgram, ask_here: Ask, server: Server
) -> None:
    for lane in ("urgent", "low", "high", "default"):
        app.ref("hold").options(priority=lane).enqueue_sync()
    worker = work()
    worker.await_output('1 job is waiting in lane "urgent", which no worker of queue shop serves: add the lane to')
    assert worker.output.count("which no worker of queue") == 1
    (found,) = json.loads(look("queues", "--json").stdout)
    assert [lane["lane"] for lane in found["lanes"]] == ["high", "default", "low", "urgent"]
    assert [lane["workers"] for lane in found["lanes"]] == [1, 1, 1, 0]
    assert [one["lanes"] for one in found["workers"]] == [["high", "default", "low"]]
    said = look("queues").stdout
    assert "high 0, default 0, low 0, urgent 1 (no worker)" in said
    assert "queue shop: 1 job is waiting in lane urgent, which no worker serves." in said
    assert "high, default, low" in look("workers").stdout
    done = ask_here("drain", "--timeout", "0.3", "--interval", "0.1", "--url", server.url)
    assert done.stderr.count("1 job is waiting in lane urgent, which no worker serves.") == 1
    stop(worker)


def test_running_jobs_have_a_lane_a_worker_a_start_and_an_age(app: Ardiq, look: Ask, work: StartProgram) -> None:
    job = app.ref("hold").options(priority="high").enqueue_sync()
    worker = work()

    def running() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(look("jobs", "--state", "running", "--json").stdout)
        return found

    eventually(running, "the job among the running ones")
    (found,) = running()
    assert (found["task_id"], found["lane"], found["deaths"], found["misses"]) == (job.id, "high", 0, 0)
    assert found["enqueue_time"] <= found["start"]
    (name,) = re.findall(r"worker (\S+) serves", worker.output)
    assert found["worker_id"] == name
    (row,) = [line for line in look("jobs").stdout.splitlines() if job.id in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[:3] == [job.id, "running", "hold"]
    assert re.fullmatch(r"\d+ s", cells[3])
    assert cells[4:6] == ["high", name]
    assert re.fullmatch(r"[\d: -]+", cells[6])
    stop(worker)


def test_an_unknown_task_is_seen_before_it_becomes_a_dead_letter(app: Ardiq, look: Ask, work: StartProgram) -> None:
    job = app.ref("mistyped").enqueue_sync()
    worker = work()
    worker.await_output(f"mistyped[{job.id}]: this worker has no task with that name.")
    assert "correct the name at the caller" in worker.output
    note = "by workers that do not have its task or cannot read its arguments"
    eventually(lambda: note in look("jobs").stdout, "the note")
    assert note in look("jobs", job.id).stdout
    stop(worker)


def test_a_dead_letter_is_logged_with_its_reason_and_the_command_that_shows_it(
    app: Ardiq, look: Ask, ask: Ask, server: Server
) -> None:
    strange = Ardiq(
        redis_url=server.url,
        queue_name="shop",
        serializer=lambda _value: b"\xc1 is no msgpack",
        deserializer=lambda data: data,
    )
    job = strange.ref("fine").enqueue_sync()
    done = ask("run", "tasks:app", "--burst", "--log-format", "json", ARDIQ_REDIS_URL=server.url)
    (line,) = [line for line in map(json.loads, done.stderr.splitlines()) if "dead letter" in line["message"]]
    assert line["message"].startswith(f"fine[{job.id}] is now a dead letter and will not run: its arguments cannot be")
    facts = {name: line[name] for name in ("level", "task", "job_id", "attempt", "outcome")}
    assert facts == {"level": "error", "task": "fine", "job_id": job.id, "attempt": 1, "outcome": "dead"}
    command = line["message"].partition(" with: ardiq inspect ")[2].split()
    assert job.id in look(*command).stdout
    assert (
        "queue shop: 1 dead letter. To see why: ardiq inspect jobs --queue shop --state dead" in look("queues").stdout
    )


def test_the_death_of_a_process_is_seen_with_the_jobs_that_ran_in_it(app: Ardiq, look: Ask, work: StartProgram) -> None:
    jobs = [app.ref("hold").enqueue_sync() for _ in range(2)]
    worker = work("-w", "2")
    worker.await_output(" serves queue shop", 2)

    def running() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(look("jobs", "--state", "running", "--json").stdout)
        return found

    eventually(lambda: len(running()) == 2, "both among the running ones")
    victim = running()[0]["worker_id"]
    ran = [one["task_id"] for one in running() if one["worker_id"] == victim]
    before = worker.output
    (pid,) = [one["pid"] for one in json.loads(look("workers", "--json").stdout) if one["id"] == victim]
    subprocess.run(["kill", "-9", str(pid)], check=True)
    worker.await_output(" ran in it: ")
    (line,) = [line for line in worker.output.removeprefix(before).splitlines() if " ran in it: " in line]
    assert all(f"hold[{job}]" in line for job in ran)
    assert "Other workers take over when its lease expires" in line
    assert "ardiq inspect jobs --queue shop --state running" in line
    worker.await_output("took over ")
    (line,) = [line for line in worker.output.splitlines() if "took over " in line]
    assert all(f"hold[{job}]" in line for job in ran)
    eventually(lambda: "1 worker process died while running it" in look("jobs").stdout, "the note")
    assert {job.id for job in jobs} == {one["task_id"] for one in json.loads(look("jobs", "--json").stdout)}
    stop(worker)


def test_a_worker_that_has_not_renewed_its_lease_is_seen(app: Ardiq, look: Ask, work: StartProgram) -> None:
    job = app.ref("hold").enqueue_sync()
    worker = work()
    eventually(lambda: "running" in look("jobs").stdout, "the job among the running ones")
    worker.send(signal.SIGSTOP)
    eventually(lambda: "expired " in look("workers").stdout, "the worker's expired lease")
    for what in ("workers", "queues"):
        assert "has not renewed its lease, which expired" in look(what).stdout
    assert "its worker has died or is frozen; another worker will run it again" in look("jobs", job.id).stdout
    worker.send(signal.SIGCONT)
    worker.send(signal.SIGTERM)
    assert worker.end() == ExitCode.OK, worker.output

"""`ardiq abort`: it aborts jobs, and says what has become of each."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq, Job, TaskStatus
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram, eventually
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]

TASKS = """
    import asyncio, os, pathlib
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})

    @app.task
    async def nap(mark):
        pathlib.Path(mark).touch()
        await asyncio.sleep(60)

    @app.task
    async def ignore_it(mark):
        pathlib.Path(mark).touch()
        while not os.path.exists("go"):
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass
"""


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name)


@pytest.fixture
def abort(ask: Ask, app: Ardiq) -> Ask:
    def abort(*arguments: str) -> subprocess.CompletedProcess[str]:
        return ask("abort", *arguments, "--queue", app.queue_name, "--url", app.redis_url)

    return abort


def test_waiting_jobs_end_at_once(app: Ardiq, abort: Ask) -> None:
    queued = app.ref("nap").enqueue_sync()
    later = app.ref("nap").options(delay_ms=60_000).enqueue_sync()
    done = abort(queued.id, later.id, queued.id)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.splitlines() == [f"{queued.id}: aborted", f"{later.id}: aborted"]
    assert all(job.result_sync(timeout=5).aborted for job in (queued, later))
    assert abort(queued.id).returncode == ExitCode.OK, "it has ended as aborted"


def test_unknown_and_finished_jobs_are_reported(
    app: Ardiq, abort: Ask, ask: Ask, module: Callable[[str], None], server: Server
) -> None:
    module(f"""
        from ardiq import Ardiq
        app = Ardiq(queue_name={app.queue_name!r})
        @app.task
        async def one(): return 1
    """)
    finished = app.ref("one").enqueue_sync()
    assert ask("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url).returncode == ExitCode.OK
    queued = app.ref("one").enqueue_sync()
    done = abort(finished.id, queued.id, "--json")
    assert done.returncode == ExitCode.FAILED
    assert json.loads(done.stdout) == [
        {"task_id": finished.id, "outcome": "ended"},
        {"task_id": queued.id, "outcome": "aborted"},
    ]
    assert done.stderr.strip() == "ardiq: not aborted: 1 of 2"
    done = abort(finished.id, "no-such-job")
    assert done.returncode == ExitCode.NOT_FOUND
    assert done.stdout.splitlines() == [
        f"{finished.id}: had already ended, or ended before it could be aborted",
        "no-such-job: unknown, or its result has expired",
    ]


def test_running_jobs_are_cancelled_by_their_worker(
    app: Ardiq, abort: Ask, ardiq: StartProgram, project: Path, module: Callable[[str], None]
) -> None:
    module(TASKS.format(queue=app.queue_name))
    worker = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=app.redis_url)

    def begin(task: str) -> Job[object]:
        job = app.ref(task).enqueue_sync(task)
        eventually(lambda: (project / task).exists(), f"the start of {task}")
        return job

    napping, ignoring = begin("nap"), begin("ignore_it")
    done = abort(napping.id)
    assert (done.returncode, done.stdout) == (ExitCode.OK, f"{napping.id}: aborted\n")
    assert f"nap[{napping.id}] was aborted during attempt 1" in worker.output
    done = abort(ignoring.id, "--wait", "0.1")
    assert done.returncode == ExitCode.TIMEOUT
    assert done.stdout == f"{ignoring.id}: is still running; it ends as aborted when its worker has cancelled it\n"
    assert ignoring.status_sync() is TaskStatus.RUNNING
    (project / "go").touch()
    assert ignoring.result_sync(timeout=10).aborted


def test_jobs_that_end_during_the_call_are_not_said_to_have_ended_otherwise(
    app: Ardiq, abort: Ask, ardiq: StartProgram, project: Path, module: Callable[[str], None]
) -> None:
    module(TASKS.format(queue=app.queue_name))
    ardiq("run", "tasks:app", "--concurrency", "150", ARDIQ_REDIS_URL=app.redis_url)
    jobs = [app.ref("nap").enqueue_sync(f"mark-{number}") for number in range(130)]
    eventually(lambda: len(list(project.glob("mark-*"))) == len(jobs), "the start of the tasks")
    later = app.ref("nap").options(delay_ms=60_000).enqueue_sync("later")
    ids = [job.id for job in jobs]
    done = abort(*ids, later.id, "--wait", "0", "--json")
    outcomes = {line["task_id"]: line["outcome"] for line in json.loads(done.stdout)}
    assert outcomes.pop(later.id) == "aborted", "asked for, although jobs before it were still running"
    assert set(outcomes.values()) <= {"aborted", "unfinished"}
    assert abort(*ids).returncode == ExitCode.OK
    assert all(job.result_sync(timeout=10).aborted for job in jobs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["two words"], "a job id must consist of printable characters"),
        (["a", "--wait", "-1"], "--wait"),
    ],
    ids=" ".join,
)
def test_bad_arguments_are_usage_errors(abort: Ask, arguments: list[str], message: str) -> None:
    done = abort(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert message in done.stderr

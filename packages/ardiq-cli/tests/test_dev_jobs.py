"""`ardiq dev` shows a line for every job that ends, and the reason if it failed."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq
from ardiq_cli.dev_worker import duration
from ardiq_cli.embedded import project_place
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram

Module = Callable[[str], None]

TASKS = """
    import asyncio
    from ardiq import Abort, Ardiq, Reject
    app = Ardiq(queue_name="shop", priorities=["bulk", "urgent"])

    @app.task
    async def double(n): return 2 * n

    @app.task
    def in_thread(n): return 2 * n

    @app.task(max_retries=1, backoff_ms=1)
    async def fail(amount):
        raise ValueError("the bank\\x1b[2J is busy")

    @app.task
    async def refuse(): raise Reject("no such order")

    @app.task
    async def cancel(): raise Abort("no\x1b[2J stock")

    @app.task(max_retries=0, timeout=0.05)
    async def slow():
        await asyncio.sleep(600)

    @app.task(silent=True)
    async def quiet(): return 1
"""


@pytest.fixture
def client(project: Path, module: Module, without_url: None) -> Ardiq:
    module(TASKS)
    return Ardiq(redis_url=project_place(project).url, queue_name="shop", priorities=["bulk", "urgent"])


def test_each_job_gets_a_line_and_each_failure_a_traceback(ardiq: StartProgram, client: Ardiq) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    quiet = client.ref("quiet").enqueue_sync()
    jobs = {
        name: client.ref(name).enqueue_sync(*arguments)
        for name, arguments in {
            "double": [1],
            "in_thread": [1],
            "fail": [5],
            "refuse": [],
            "cancel": [],
            "slow": [],
        }.items()
    }
    for job in (quiet, *jobs.values()):
        assert job.result_sync(timeout=20) is not None
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK
    for name in ("double", "in_thread"):
        line = re.escape(f"ardiq.dev: {name}[{jobs[name].id}] succeeded in ") + r"[\d.]+ m?s \(attempt 1 of 4\)"
        assert len(re.findall(line, program.output)) == 1, program.output
    failed = re.escape(f"fail[{jobs['fail'].id}] failed after ") + r"[\d.]+ ms \((.+)\): (.*)"
    assert re.findall(failed, program.output) == [
        ("attempt 1 of 2, retrying in 1.0 ms", "ValueError('the bank\\x1b[2J is busy')"),
        ("attempt 2 of 2", "ValueError('the bank\\x1b[2J is busy')"),
    ]
    refused = re.escape(f"refuse[{jobs['refuse'].id}] failed after ") + r"[\d.]+ ms \((.+)\): Reject"
    assert re.findall(refused, program.output) == ["attempt 1 of 4, the last"]
    aborted = re.escape(f"cancel[{jobs['cancel'].id}] ended after ") + r"[\d.]+ ms \((.+)\): (.*)"
    assert re.findall(aborted, program.output) == [("attempt 1 of 4", "aborted: no\\x1b[2J stock")]
    assert program.output.count("Traceback (most recent call last):") == 4
    assert program.output.count("""raise ValueError("the bank\\x1b[2J is busy")""") == 2
    assert "\x1b[2J" not in program.output
    slow = re.escape(f"slow[{jobs['slow'].id}] failed after ") + r"\d+ ms \(attempt 1 of 1\): timed out after 0.05s"
    assert re.search(slow, program.output), program.output
    assert quiet.id not in program.output
    assert " failed on attempt " not in program.output, "the worker's own line would repeat it"


def test_the_lines_can_be_json(ardiq: StartProgram, client: Ardiq) -> None:
    program = ardiq("dev", "tasks:app", "--log-format", "json")
    program.await_output(" serves ")
    job = client.ref("fail").enqueue_sync(5)
    assert job.result_sync(timeout=20) is not None
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK
    lines = [json.loads(line) for line in program.output.splitlines()]
    lines = [line for line in lines if line["message"].startswith(f"fail[{job.id}] failed after ")]
    assert [(line["task"], line["job_id"], line["attempt"], line["outcome"]) for line in lines] == [
        ("fail", job.id, 1, "retry"),
        ("fail", job.id, 2, "failed"),
    ]
    assert all(isinstance(line["duration_ms"], int) for line in lines)


def test_it_says_what_it_serves_and_what_to_try_once(ardiq: StartProgram, client: Ardiq, module: Module) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    module(TASKS + "\n    # changed\n")
    program.await_output(" serves ", 2)
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK
    said = f"serving queue shop at {client.redis_url}, lanes urgent > bulk"
    assert program.output.count(said) == 1
    assert program.output.count("tasks: double, in_thread, fail, refuse, cancel, slow, quiet") == 2
    hint = "try, in another terminal: ardiq inspect queues --queue shop, ardiq inspect jobs --queue shop"
    assert program.output.count(hint) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00012, "0.1 ms"), (0.0123, "12 ms"), (0.9994, "999 ms"), (1.26, "1.3 s"), (123.4, "123 s")],
)
def test_durations_have_the_digits_that_matter(seconds: float, text: str) -> None:
    assert duration(seconds) == text

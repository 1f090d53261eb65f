"""Arguments and results that exceed a limit of the server break every connection that carries them.
Such a job ends, callers get an error that names the limit, and everything else works.
"""

import asyncio
import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from redis import ResponseError

from ardiq import Ardiq, BrokerRefusedError, TaskStatus
from tests.conftest import ServerFactory
from tests.line import Line
from tests.servers import Server
from tests.test_lines import ended, sized, working

LIMIT = "client-output-buffer-limit"
TOO_LARGE = 3_000_000
MOST_MISSES = 12


@pytest.fixture
def limited(make_server: ServerFactory) -> Server:
    """A server that sends at most a megabyte in one reply."""
    server = make_server()
    server.cli("CONFIG", "SET", LIMIT, "normal 1mb 1mb 0")
    with suppress(ResponseError):  # only Valkey 9 has this setting: it may send values around its buffer
        server.cli("CONFIG", "SET", "min-string-size-avoid-copy-reply", 2**30)
    return server


@pytest.fixture
def app(limited: Server, queue_name: str) -> Ardiq:
    return sized(limited.url, queue_name, max_payload_bytes=4_000_000)


async def enqueue_after(server: Server, app: Ardiq, misses: int) -> Any:
    """Enqueue a job whose arguments cannot be read, as if so many workers had returned it."""
    job = await app.ref("size").options(delay_ms=3_600_000).enqueue(b"x" * TOO_LARGE)
    base = f"ardiq:{{{app.queue_name}}}:"
    # In the record: kind, nonce, length and name of the stream, and in the header tries and deaths.
    at = 1 + 8 + 1 + len("lane:default") + 3
    server.cli("SETRANGE", f"{base}job:{job.id}", at, bytes([misses]))
    server.cli("ZADD", f"{base}due", 1, job.id)
    return job


def command(server: Server, app: Ardiq, *words: str) -> str:
    shared = ("--url", server.url, "--queue", app.queue_name)
    program = [sys.executable, "-m", "ardiq_cli", *words, *shared]
    return subprocess.run(program, check=True, capture_output=True, text=True, timeout=60).stdout


async def test_a_job_whose_arguments_cannot_be_read_becomes_a_dead_letter_and_others_run(
    app: Ardiq, limited: Server
) -> None:
    last = await enqueue_after(limited, app, MOST_MISSES)
    first = await app.ref("size").enqueue(b"x" * TOO_LARGE)
    async with working(app):
        for length in (1, 500_000):
            assert (await ended(await app.ref("size").enqueue(b"x" * length))).value == length
        result = await ended(last)
        assert (result.success, result.tries) == (False, 0)
        assert result.value.startswith("no worker can read the arguments: ")
        assert LIMIT in result.value
    (letter,) = await app.jobs("dead")
    assert (letter.info.task_id, letter.info.args, letter.reason) == (last.id, (), result.value)
    (listed,) = json.loads(command(limited, app, "inspect", "jobs", "--state", "dead", "--json"))
    assert LIMIT in listed["reason"]
    # It comes back, until a worker can read its arguments.
    assert await first.status() is not TaskStatus.COMPLETE
    limited.cli("CONFIG", "SET", LIMIT, "normal 0 0 0")
    async with working(app):
        assert (await ended(first)).tries == 1
    (letter,) = await app.jobs("dead")
    assert letter.info.args == (b"x" * TOO_LARGE,), "the arguments are kept"
    command(limited, app, "drain", "--timeout", "10")


async def test_a_waiting_job_whose_arguments_cannot_be_read_is_shown_without_them(app: Ardiq, limited: Server) -> None:
    job = await app.ref("size").enqueue(b"x" * TOO_LARGE)
    with pytest.raises(BrokerRefusedError, match=f"arguments of job '{job.id}' exist, but cannot be read: .*{LIMIT}"):
        await job.info()
    assert await job.status() is TaskStatus.QUEUED
    (listed,) = await app.jobs("queued")
    assert (listed.task_id, listed.fn_name, listed.args) == (job.id, "size", ())
    found = json.loads(command(limited, app, "inspect", "jobs", job.id, "--json"))
    found = found[0] if isinstance(found, list) else found
    assert (found["task_id"], found["status"]) == (job.id, "queued")
    assert LIMIT in found["error"]


async def test_a_result_that_cannot_be_read_is_an_error_before_the_wait_ends(app: Ardiq) -> None:
    async with working(app):
        job = await app.ref("make").enqueue(TOO_LARGE)
        with pytest.raises(BrokerRefusedError, match=LIMIT):
            await job.result(timeout=60)
        with pytest.raises(BrokerRefusedError, match=LIMIT):
            await job.result()
        assert (await ended(await app.ref("make").enqueue(1))).success
    assert await job.status() is TaskStatus.COMPLETE


class BadLine(Line):
    """Breaks all connections at once whenever a large value is on its way to a program."""

    async def _pass_on(self, way: str, connection: Any, reader: asyncio.StreamReader, writer: Any) -> None:
        if way == "up":
            await super()._pass_on(way, connection, reader, writer)
            return
        passed = 0
        while data := await reader.read(65536):
            passed += len(data)
            if passed > TOO_LARGE / 2:
                self._gate.sever()
            writer.write(data)
            await writer.drain()


async def test_a_worker_on_a_bad_line_makes_no_job_a_dead_letter(
    server: Server, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    near = sized(server.url, queue_name, max_payload_bytes=4_000_000)
    job = await enqueue_after(server, near, MOST_MISSES)
    async with BadLine(server) as line, working(sized(line.url, queue_name)), asyncio.timeout(60):
        while "cannot be read now, so it is returned to the queue: " not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    async with working(near):
        assert (await ended(job)).value == TOO_LARGE
    assert await near.jobs("dead") == []

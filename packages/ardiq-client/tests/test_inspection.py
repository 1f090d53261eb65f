"""Questions about an unfinished job: during a run and before a retry.

Waiting costs the server almost nothing.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

import ardiq_core
from ardiq import Ardiq, Retry, TaskStatus
from ardiq.inspection import LaneState, QueueState, WorkerState
from ardiq.options import shown


class Server(Protocol):
    """What a test needs to know of a server."""

    @property
    def url(self) -> str: ...
    def cli(self, *command: str) -> Any: ...


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name)


@asynccontextmanager
async def serving(app: Ardiq) -> AsyncIterator[None]:
    """A worker during the block."""
    async with asyncio.timeout(30):
        worker = asyncio.create_task(app.run(shutdown_grace_s=0))
        try:
            yield
        finally:
            app.stop()
            await worker


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Poll. The caller sets the deadline."""
    while not await holds():  # noqa: ASYNC110 - the server is asked
        await asyncio.sleep(0.01)  # the pause between two polls


async def test_a_running_job_says_so_and_waits_no_more(app: Ardiq) -> None:
    release = asyncio.Event()

    @app.task
    async def hold(number: int) -> None:
        await release.wait()

    async def is_running() -> bool:
        return await job.status() is TaskStatus.RUNNING

    job = await hold.enqueue(7)
    later = await hold.options(delay_ms=3_600_000).enqueue(8)
    assert await app.queue_size() == 2
    async with serving(app):
        await until(is_running)
        info = await job.info()
        assert info is not None
        assert (info.status, info.tries, info.args, info.scheduled_at) == (TaskStatus.RUNNING, 1, (7,), None)
        assert (info.lane, info.worker_id, info.deaths, info.misses) == ("default", app.worker_id, 0, 0)
        assert info.start is not None
        assert info.start >= info.enqueue_time
        assert [found.task_id for found in await app.jobs("running")] == [job.id]
        assert await app.queue_size() == 1
        state = await app.inspect()
        assert (state["running"], state["waiting"], state["unfinished"]) == (1, 1, 2)
        assert [worker["lanes"] for worker in state["workers"]] == [["default"]]
        assert [(lane["lane"], lane["workers"]) for lane in state["lanes"]] == [("default", 1)]
        assert await job.result() is None
        release.set()
        assert await job.result(timeout=20) is not None
        assert await job.status() is TaskStatus.COMPLETE
    assert await later.status() is TaskStatus.SCHEDULED


@pytest.mark.parametrize(
    ("backoff_ms", "asked_ms", "delay_ms"), [(0, None, 1000), (600, None, 600), (7, 60_000, 60_000)]
)
async def test_a_job_that_is_to_be_tried_again_is_scheduled_for_then(
    app: Ardiq, backoff_ms: int, asked_ms: int | None, delay_ms: int
) -> None:
    failed_ms: list[int] = []

    @app.task(backoff_ms=backoff_ms)
    async def fail() -> None:
        failed_ms.append((await app.inspect())["now_ms"])
        app.stop()  # no worker is left to try it again
        if asked_ms is None:
            raise ConnectionError
        raise Retry("later", delay_ms=asked_ms)

    job = await fail.enqueue()
    async with asyncio.timeout(30):
        await app.run()
    seen_ms = (await app.inspect())["now_ms"]
    info = await job.info()
    assert info is not None
    assert (info.status, info.tries, len(failed_ms)) == (TaskStatus.SCHEDULED, 1, 1)
    assert info.scheduled_at is not None
    assert failed_ms[0] + delay_ms <= info.scheduled_at <= seen_ms + delay_ms


async def test_a_wait_in_vain_says_which_queue_and_server_without_the_password(server: Server, queue_name: str) -> None:
    address = server.url.removeprefix("redis://")
    app = Ardiq(f"redis://default:@{address}/0?client_name=x", queue_name)
    job = await app.send("unknown.task")
    place = f"from queue '{queue_name}' at redis://{address}/0; "
    with pytest.raises(TimeoutError, match=re.escape(f"no result within 0.01s {place}")):
        await job.result(timeout=0.01)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://user:pass@host:1/2?x=pass", "redis://host:1/2"),
        ("rediss://:pa/s@s@host", "rediss://host"),
        ("unix://user:pass@/tmp/redis.sock?db=1&password=pass", "unix:///tmp/redis.sock"),
        ("redis://localhost:6379", "redis://localhost:6379"),
    ],
)
def test_a_shown_url_has_no_credentials(url: str, expected: str) -> None:
    assert shown(url) == expected


async def test_jobs_come_in_the_order_that_is_documented(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name, ["a", "b"])

    @app.task
    async def work() -> None: ...

    for name, priority, delay_ms in [
        *[("a1", "a", 0), ("b1", "b", 0), ("a2", "a", 0), ("b2", "b", 0)],
        *[("late", "a", 9_000_000), ("soon", "b", 8_000_000)],
    ]:
        await work.options(task_id=name, priority=priority, delay_ms=delay_ms).enqueue()
    queued = [job.task_id for job in await app.jobs("queued")]
    assert sorted(queued) == ["a1", "a2", "b1", "b2"]
    assert [name for name in queued if name.startswith("a")] == ["a1", "a2"]
    assert [name for name in queued if name.startswith("b")] == ["b1", "b2"]
    assert [job.task_id for job in await app.jobs("scheduled")] == ["soon", "late"]


async def test_dead_letters_come_newest_first_and_are_complete(app: Ardiq) -> None:
    @app.task
    async def work() -> None: ...

    bad = Ardiq(app.redis_url, app.queue_name, serializer=lambda value: b"\xc1", deserializer=lambda data: data)
    async with serving(app):
        for name in ("first", "second"):
            job = await bad.ref("work").options(task_id=name).enqueue()
            assert not (await job.result(timeout=20)).success
    dead = await app.jobs("dead")
    assert [letter.info.task_id for letter in dead] == ["second", "first"]
    assert {letter.info.status for letter in dead} == {TaskStatus.COMPLETE}
    assert {letter.info.args for letter in dead} == {()}


async def test_the_state_of_a_queue_has_the_keys_that_are_documented(app: Ardiq) -> None:
    @app.task
    async def work() -> None: ...

    async with serving(app):
        await (await work.enqueue()).result(timeout=20)
        state = await app.inspect()
        (lane,), (worker,) = state["lanes"], state["workers"]
    for found, documented in ((state, QueueState), (lane, LaneState), (worker, WorkerState)):
        assert set(found) == documented.__required_keys__
    # The answer of the native module, as its stub documents it, lacks the name, which the client
    # adds.
    stub = Path(ardiq_core.__file__).with_name("_core.pyi").read_text()
    keys = re.search(r"Keys: (.*?)\.\n\n", stub, re.DOTALL)
    assert keys is not None
    listed = re.findall(r"\w+", keys[1])
    assert sorted(listed) == sorted([*(set(state) - {"name"}), *lane, *worker])


async def test_a_wait_asks_once_however_long_it_lasts(make_server: Callable[..., Server], queue_name: str) -> None:
    server = make_server()  # a separate one, because all its commands are counted
    app = Ardiq(server.url, queue_name)
    job = await app.send("unknown.task")

    def asked() -> int:
        statistics = server.cli("INFO", "commandstats")
        return sum(int(one["calls"]) for name, one in statistics.items() if not name.startswith("cmdstat_info"))

    async def wait(timeout: float) -> None:
        with pytest.raises(TimeoutError):
            await job.result(timeout=timeout)

    await wait(0.01)  # subscribes
    before = asked()
    await asyncio.gather(*(wait(1.5) for _ in range(20)))
    # Each caller asks once, in scripts of a few commands, and perhaps the connection is checked. A
    # caller that polls would need as many commands each time.
    assert asked() - before < 200


@pytest.mark.parametrize("score", ["-inf", "-1e300", "+inf", "1e300"])
async def test_a_score_that_is_no_time_can_be_inspected(app: Ardiq, server: Server, score: str) -> None:
    server.cli("ZADD", f"ardiq:{{{app.queue_name}}}:workers", score, "w")
    async with asyncio.timeout(30):
        state, size = await asyncio.gather(app.inspect(), app.queue_size())
    (worker,) = state["workers"]
    assert (worker["id"], worker["lease_left_ms"] < 0) == ("w", score.startswith("-"))
    assert size == 0

"""Jobs go through a real server: what tasks do, and the results."""

import asyncio
import gc
import logging
import re
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from ardiq import Ardiq, BrokerError, Job, Reject, Retry, TaskResult, current_task
from tests.gate import Gate, until_one_ends
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name, burst=True)


async def run(app: Ardiq, **overrides: Any) -> None:
    async with asyncio.timeout(30):
        await app.run(**overrides)


async def result(app: Ardiq, job_id: str) -> TaskResult[Any]:
    found = await app.result(job_id)
    assert found is not None
    return found


async def test_both_kinds_of_task_run_and_store_their_values(app: Ardiq) -> None:
    @app.task
    async def add(a: int, b: int) -> int:
        return a + b

    @app.task
    def halve(number: int) -> tuple[int, bool]:
        return number // 2, threading.current_thread() is threading.main_thread()

    sums = [await add.enqueue(n, b=1) for n in range(50)]
    half = await halve.enqueue(8)
    await run(app)
    assert [(await result(app, job.id)).value for job in sums] == list(range(1, 51))
    found = await result(app, half.id)
    assert (found.success, found.value, found.tries, found.fn_name) == (True, (4, False), 1, "halve")
    assert found.enqueue_time <= found.start <= found.finish
    assert found.worker_id == app.worker_id


async def test_failures_are_retried_until_one_succeeds(app: Ardiq) -> None:
    @app.task(max_retries=3, backoff_ms=1)
    async def flaky() -> int:
        context = current_task()
        assert context is not None
        if context.tries < 3:
            raise ConnectionError
        return context.tries

    job = await flaky.enqueue()
    await run(app)
    found = await result(app, job.id)
    assert (found.success, found.value, found.tries) == (True, 3, 3)


@pytest.mark.parametrize("sync", [False, True])
async def test_the_last_failure_is_the_result(app: Ardiq, sync: bool) -> None:
    async def fail() -> None:
        raise ValueError("no good")

    def fail_in_thread() -> None:
        raise ValueError("no good")

    task = app.task(name="fail", max_retries=2, backoff_ms=1)(fail_in_thread if sync else fail)
    job = await task.enqueue()
    await run(app)
    found = await result(app, job.id)
    assert (found.success, found.value, found.tries, found.aborted) == (False, "ValueError('no good')", 3, False)
    assert (found.error_type, found.worker_id) == ("ValueError", app.worker_id)
    assert found.traceback is not None
    assert "no good" in found.traceback


async def test_retry_and_reject(app: Ardiq) -> None:
    @app.task(max_retries=2)
    async def again() -> None:
        raise Retry("once more", delay_ms=0)

    @app.task(max_retries=2)
    def never() -> None:
        raise Reject("no")

    jobs = [await again.enqueue(), await never.enqueue()]
    await run(app)
    first, second = [await result(app, job.id) for job in jobs]
    assert (first.success, first.value, first.tries) == (False, "Retry('once more')", 3)
    assert (second.success, second.value, second.tries) == (False, "Reject('no')", 1)


async def test_timeouts(app: Ardiq) -> None:
    release = threading.Event()

    @app.task(timeout=0.02, max_retries=1, backoff_ms=1)
    async def hang() -> None:
        await asyncio.sleep(60)

    @app.task(timeout=0.02, max_retries=0)
    def stuck() -> None:
        release.wait(20)

    jobs = [await hang.enqueue(), await stuck.enqueue()]
    await run(app)
    release.set()
    first, second = [await result(app, job.id) for job in jobs]
    assert (first.value, first.tries, first.error_type) == ("timed out after 0.02s", 2, "TimeoutError")
    assert (second.value, second.tries) == ("timed out after 0.02s", 1)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, RecursionError, asyncio.CancelledError])
async def test_the_worker_outlives_whatever_a_task_raises(app: Ardiq, kind: type[BaseException]) -> None:
    @app.task(max_retries=0)
    async def fatal(suspend: bool) -> None:
        if suspend:
            await asyncio.sleep(0)
        raise kind("from the task")

    @app.task(max_retries=0)
    def fatal_in_thread() -> None:
        raise kind("from the task")

    @app.task
    async def fine() -> str:
        return "fine"

    jobs = [await fatal.enqueue(True), await fatal.enqueue(False), await fatal_in_thread.enqueue()]
    last = await fine.enqueue()
    await run(app, concurrency=1)
    for job in jobs:
        found = await result(app, job.id)
        assert (found.success, found.aborted, found.value) == (False, False, f"{kind.__name__}('from the task')")
    assert (await result(app, last.id)).value == "fine"


async def test_a_value_that_cannot_be_serialized_finishes_the_job(app: Ardiq) -> None:
    runs: list[int] = []

    @app.task
    async def lock() -> object:
        runs.append(1)
        return threading.Lock()

    job = await lock.enqueue()
    await run(app)
    found = await result(app, job.id)
    assert found.success is False
    assert "cannot be serialized" in found.value
    assert runs == [1]


async def test_texts_that_cannot_be_encoded_block_nothing(app: Ardiq) -> None:
    @app.task(max_retries=0)
    async def odd() -> None:
        raise ValueError("\ud800")

    @app.task
    async def fine() -> str:
        return "fine"

    jobs: list[Job[Any]] = [await odd.enqueue(), await fine.enqueue()]
    await run(app)
    assert (await result(app, jobs[0].id)).error_type == "ValueError"
    assert (await result(app, jobs[1].id)).value == "fine"


async def test_an_undecodable_body_is_dead_lettered_and_blocks_nothing(app: Ardiq, server: Server) -> None:
    stranger = Ardiq(
        server.url, app.queue_name, serializer=lambda value: b"\xc1 not msgpack", deserializer=lambda data: data
    )

    @app.task
    async def fine() -> str:
        return "fine"

    bad = await stranger.send("fine")
    good = await fine.enqueue()
    await run(app, concurrency=1)
    assert "cannot be decoded" in (await result(app, bad.id)).value
    assert (await result(app, good.id)).value == "fine"


async def test_an_unknown_task_waits_for_a_worker_that_knows_it(app: Ardiq, server: Server, queue_name: str) -> None:
    job = await app.send("later")
    refused = asyncio.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "this worker has no task with that name" in record.getMessage():
                refused.set()

    listener = Listener()
    logging.getLogger("ardiq.worker").addHandler(listener)
    try:
        serving = asyncio.create_task(run(app, burst=False))
        async with asyncio.timeout(10):
            await refused.wait()
        app.stop()
        await serving
    finally:
        logging.getLogger("ardiq.worker").removeHandler(listener)
    assert await app.status(job.id) in ("queued", "scheduled")
    newer = Ardiq(server.url, queue_name, burst=True)

    @newer.task
    async def later() -> str:
        return "at last"

    await run(newer)
    assert (await result(newer, job.id)).value == "at last"


async def test_headers_travel_to_the_task(app: Ardiq) -> None:
    @app.task
    async def look() -> dict[str, str]:
        context = current_task()
        assert context is not None
        return context.headers

    job = await look.options(headers={"trace": "abc"}).enqueue()
    await run(app)
    assert (await result(app, job.id)).value == {"trace": "abc"}


@pytest.mark.parametrize("sync", [False, True])
async def test_a_run_inherits_nothing_from_the_runs_before_it(app: Ardiq, sync: bool) -> None:
    seen: ContextVar[str] = ContextVar("seen", default="nothing")
    seen.set("the worker's")

    def remember() -> str:
        found = seen.get()
        seen.set("leaked")
        return found

    async def remember_on_the_loop() -> str:
        found = remember()
        await asyncio.sleep(0)
        return found

    task = app.task(name="remember")(remember if sync else remember_on_the_loop)
    jobs = [await task.enqueue() for _ in range(5)]
    await run(app, concurrency=1)
    assert [(await result(app, job.id)).value for job in jobs] == ["the worker's"] * 5


async def test_no_more_than_concurrency_run_at_once(app: Ardiq) -> None:
    now, most, seven = 0, 0, asyncio.Barrier(7)

    @app.task
    async def count() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await seven.wait()
        now -= 1

    await app.enqueue_many([count.prepare() for _ in range(14 * 7)])
    await run(app, concurrency=7)
    assert (now, most) == (0, 7)


async def test_functions_have_as_many_threads_as_the_app_says(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name, burst=True, concurrency=4, sync_concurrency=2)
    both_run = threading.Barrier(2)

    @app.task(max_retries=0)
    def work() -> str:
        both_run.wait(10)
        return threading.current_thread().name

    jobs = [await work.enqueue() for _ in range(8)]
    await run(app)
    # Two at a time, or the barrier would have failed; and never more than two.
    assert len({(await result(app, job.id)).value for job in jobs}) == 2
    assert all([(await result(app, job.id)).success for job in jobs])


async def test_functions_leave_the_loop_s_own_executor_alone(app: Ardiq) -> None:
    class Reserved(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("this pool belongs to the user")

    @app.task(max_retries=0)
    def work() -> str:
        return threading.current_thread().name

    asyncio.get_running_loop().set_default_executor(Reserved())
    job = await work.enqueue()
    await run(app)
    assert (await result(app, job.id)).value.startswith("ardiq-task")


async def test_signals_are_left_to_the_program(app: Ardiq) -> None:
    def handlers() -> list[Any]:
        return [signal.getsignal(number) for number in sorted(signal.valid_signals())]

    seen: list[list[Any]] = []

    @app.task
    async def look() -> None:
        seen.append(handlers())

    before = handlers()
    await look.enqueue()
    await run(app)
    assert seen == [before]


async def test_a_task_enqueues_further_tasks_and_burst_waits_for_them(app: Ardiq) -> None:
    done: list[int] = []

    @app.task
    async def step(depth: int) -> None:
        done.append(depth)
        if depth:
            await step.enqueue(depth - 1)

    await step.enqueue(20)
    await run(app)
    assert done == list(range(20, -1, -1))


async def test_a_server_out_of_reach_is_a_broker_error() -> None:
    app = Ardiq("redis://127.0.0.1:1", burst=True, connect_timeout_s=0.2)
    with pytest.raises(BrokerError):
        await run(app)


async def test_a_server_that_is_too_old_is_a_broker_error_that_says_so(server: Server, queue_name: str) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(
                re.sub(rb"redis_version:\d+\.", lambda found: b"redis_version:" + b"6.".zfill(len(found[0]) - 14), data)
            )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with gate.onward(server.port) as (replies, to_server):
            await until_one_ends(pass_on(reader, to_server), pass_on(replies, writer))

    async with Gate(serve) as gate:
        app = Ardiq(gate.url, queue_name, burst=True)
        with pytest.raises(
            BrokerError, match=r"the server is version 0*6\..*, but ArdiQ needs Redis 7\.0 or Valkey 7\.2"
        ):
            await run(app)
        app._connection.close()
        gc.collect()  # the frames of the exception hold the worker, and that its connection


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="without eager start all ready tasks run in one turn of the loop"
)
async def test_tasks_that_compute_leave_the_loop_its_turns(app: Ardiq) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1

    @app.task
    async def compute() -> None:
        sum(range(100_000))  # longer than a short moment, and without giving way
        asyncio.get_running_loop().call_soon(turn)

    await app.enqueue_many([compute.prepare() for _ in range(64)])
    seen: list[int] = []

    @app.task
    async def last() -> None:
        seen.append(turns)

    await last.enqueue()
    await run(app, concurrency=65, prefetch=65)
    assert seen[0] > 0

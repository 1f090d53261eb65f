"""Blocking calls on the thread of a running event loop: they warn, and the one that could wait
forever is refused.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ardiq import Ardiq, BrokerError, Job
from tests.servers import Server

APP = Ardiq("redis://127.0.0.1:1", connect_timeout_s=0.05)
JOB: Job[Any] = Job(APP, "unknown")
TASK = APP.ref("work")

ROUND_TRIPS: dict[str, Callable[[], object]] = {
    "enqueue": TASK.enqueue_sync,
    "enqueue of a task with options": TASK.options(delay_ms=1).enqueue_sync,
    "enqueue_many": lambda: APP.enqueue_many_sync([TASK.prepare()]),
    "result": lambda: APP.result_sync("unknown"),
    "result of a job": JOB.result_sync,
    "result without waiting": lambda: JOB.result_sync(0),
    "status": lambda: APP.status_sync("unknown"),
    "status of a job": JOB.status_sync,
    "info": lambda: APP.info_sync("unknown"),
    "info of a job": JOB.info_sync,
    "queue_size": APP.queue_size_sync,
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
async def test_a_call_on_the_thread_of_a_running_loop_warns_where_it_stands(name: str) -> None:
    method = name.partition(" ")[0]
    expected = rf"^{method}_sync\(\) blocks .*; await {method}\(\)$"
    with pytest.warns(RuntimeWarning, match=expected) as said, pytest.raises(BrokerError):
        ROUND_TRIPS[name]()
    assert [warning.filename for warning in said] == [__file__]


async def test_waiting_for_a_result_on_the_thread_of_a_running_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"await result\(\), or call it in another thread"):
        JOB.result_sync(timeout=60)
    with pytest.raises(RuntimeError, match=r"result_sync\(\) with a timeout would block"):
        APP.result_sync("unknown", 0.001)


@pytest.mark.parametrize("name", ROUND_TRIPS)
async def test_in_another_thread_nothing_is_said(name: str) -> None:
    with pytest.raises(BrokerError):
        await asyncio.to_thread(ROUND_TRIPS[name])


async def test_a_task_that_waits_for_another_fails_and_its_worker_goes_on(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name, concurrency=2)

    @app.task
    async def inner() -> int:
        return 1

    @app.task(max_retries=0)
    async def waits() -> object:
        return (await inner.enqueue()).result_sync(timeout=60)

    @app.task
    def waits_in_a_thread() -> object:
        result = inner.enqueue_sync().result_sync(timeout=60)
        assert result is not None
        return result.value

    worker = asyncio.create_task(app.run())
    async with asyncio.timeout(30):
        refused = await (await waits.enqueue()).result(timeout=30)
        result = await (await waits_in_a_thread.enqueue()).result(timeout=30)
    app.stop()
    await worker
    assert refused is not None
    assert (refused.success, refused.error_type) == (False, "RuntimeError")
    assert result is not None
    assert result.value == 1

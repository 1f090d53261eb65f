"""Workflows that are refused, and their warnings."""

import asyncio
from datetime import datetime

import pytest

import ardiq
from ardiq import Ardiq, InvalidIdError
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name, concurrency=4)


async def test_what_is_wrong_is_an_error_before_anything_is_sent(app: Ardiq, server: Server, queue_name: str) -> None:
    @app.task
    async def add(a: int, b: int = 0) -> int:
        return a + b

    other = Ardiq(server.url, f"{queue_name}-other")

    @other.task
    async def elsewhere(a: int) -> int:
        return a

    pending, other_pending = add.enqueue(1), add.enqueue(1)
    with pytest.raises(TypeError, match="takes a task, not PendingEnqueue; call"):
        pending.then(other_pending)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    other_pending.close()
    with pytest.raises(TypeError, match="has no argument 'c'"):
        pending.then(add, c=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="positional ones come from the output"):
        pending.then(add, 1)  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(ValueError, match="belongs to another app"):
        pending.then(elsewhere)
    with pytest.raises(InvalidIdError):
        add.options(after="two words")
    with pytest.raises(TypeError, match="after takes jobs, ids and enqueues, not int"):
        add.options(after=[3])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at least one job"):
        ardiq.gather()
    with pytest.raises(ValueError, match="on_failure must be fail or collect"):
        ardiq.gather(pending, on_failure="colect")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="must have a time zone"):
        pending.start(schedule=datetime(2030, 1, 1))
    child = pending.then(add)
    pending.start(after=child)
    with pytest.raises(ValueError, match="depends on itself"):
        await child
    with pytest.raises(ValueError, match="depends on itself"):
        await add.options(task_id="own", after="own").enqueue(1)
    twice = add.options(task_id="same").enqueue(1).then(add.options(task_id="same"))
    with pytest.raises(ValueError, match="two jobs of this workflow have the id"):
        await twice
    assert await app.queue_size() == 0


async def test_a_workflow_that_is_never_awaited_warns(app: Ardiq) -> None:
    @app.task
    async def add(a: int, b: int = 0) -> int:
        return a + b

    with pytest.warns(RuntimeWarning, match="the workflow of 'add', 'add' was never awaited"):
        add.enqueue(1).then(add)


async def test_a_job_that_exists_already_can_begin_a_workflow_but_not_continue_one(app: Ardiq) -> None:
    @app.task(unique=True)
    async def same(n: int) -> int:
        return n

    @app.task
    async def show(n: int) -> str:
        return str(n)

    existing = await same.options(delay_ms=300).enqueue(5)
    root = same.enqueue(5)
    child = root.then(show)
    job = await child
    assert (await root).id == existing.id
    taken = show.enqueue(1).then(same.options(task_id=existing.id))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    with pytest.raises(ValueError, match="only the first jobs of a workflow can be jobs that exist already"):
        await taken
    async with asyncio.timeout(60):
        await app.run(burst=True)
    result = await job.result(timeout=10)
    assert result.value == "5"

"""Joins: jobs that run after many others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import ardiq
from ardiq import Ardiq, Job, TaskResult
from tests.leftovers import leftovers
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name, ["low", "default", "high"], concurrency=4)


@asynccontextmanager
async def working(app: Ardiq) -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        worker = asyncio.create_task(app.run(shutdown_grace_s=0))
        try:
            yield
        finally:
            app.stop()
            await worker


async def value(job: Job[Any]) -> Any:
    """What a job returned."""
    result = await job.result(timeout=20)
    assert result.success, result
    return result.value


async def failure(job: Job[Any]) -> str:
    """Why a job failed."""
    result = await job.result(timeout=20)
    assert not result.success, result
    return str(result.value)


async def test_gather_joins_outputs_in_order(app: Ardiq) -> None:
    @app.task
    async def number(n: int) -> int:
        await asyncio.sleep(0.02 if n == 0 else 0)
        return n

    @app.task
    async def text(t: str) -> tuple[str, str]:
        return t, t

    @app.task
    async def combine(*parts: Any) -> str:
        return repr(parts)

    @app.task
    async def combine_all(parts: tuple[Any, ...]) -> str:
        return repr(parts)

    async with working(app):
        both = ardiq.gather(number.enqueue(0), text.enqueue("x"))
        assert await value(await both.then(combine)) == "(0, ('x', 'x'))"
        earlier = await number.enqueue(7)
        both = ardiq.gather(earlier, text.enqueue("y"))
        assert await value(await both.then(combine_all.options(unpack=False))) == "(7, ('y', 'y'))"
        assert await value(await ardiq.gather(text.enqueue("z")).then(combine)) == "(('z', 'z'),)"
        jobs = await ardiq.gather(number.enqueue(1), number.enqueue(2))
        assert [await value(job) for job in jobs] == [1, 2]


async def test_a_join_fails_with_its_first_member_or_collects_all(app: Ardiq) -> None:
    @app.task(max_retries=0)
    async def half(n: int) -> int:
        if n % 2:
            raise ValueError(n)
        return n // 2

    @app.task
    async def add_up(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task
    async def count(results: list[TaskResult[int]]) -> dict[str, int]:
        return {"good": sum(one.success for one in results), "all": len(results)}

    async with working(app):
        assert await value(await ardiq.map(half, [2, 4, 6]).then(add_up)) == 6
        job = await ardiq.map(half.options(priority="low"), [2, 3, 4]).then(add_up)
        assert (await failure(job)).startswith("dependency failed: ")
        collected = ardiq.map(half, [2, 3, 4, 5], on_failure="collect").then(count)
        assert await value(await collected) == {"good": 2, "all": 4}
        assert await value(await ardiq.map(half, []).then(add_up)) == 0


async def test_a_job_can_be_several_members_of_a_join(app: Ardiq) -> None:
    @app.task
    async def number(n: int) -> int:
        return n

    @app.task(unique=True)
    async def same(n: int) -> int:
        return n

    @app.task
    async def combine(*parts: Any) -> str:
        return repr(parts)

    @app.task
    async def add_up(numbers: list[int]) -> int:
        return sum(numbers)

    async with working(app):
        twice = number.enqueue(3)
        assert await value(await ardiq.gather(twice, twice).then(combine)) == "(3, 3)"
        earlier = await number.enqueue(4)
        assert await value(await ardiq.gather(earlier, earlier).then(combine)) == "(4, 4)"
        jobs = ardiq.map(same, [1, 1, 2])
        assert await value(await jobs.then(add_up)) == 4
        assert len({job.id for job in await jobs}) == 2, "the same call is one job"


async def test_a_unique_child_has_no_identity_before_its_arguments_are_known(app: Ardiq) -> None:
    @app.task
    async def number(n: int) -> int:
        return n

    @app.task(unique=True)
    async def show(n: int) -> str:
        return str(n)

    async with working(app):
        jobs = [await number.enqueue(n).then(show) for n in (1, 2)]
        assert [await value(job) for job in jobs] == ["1", "2"]


async def test_a_join_of_many_members_runs_once(app: Ardiq, server: Server, queue_name: str) -> None:
    runs: list[int] = []

    @app.task
    async def square(n: int) -> int:
        return n * n

    @app.task
    async def add_up(numbers: list[int]) -> int:
        runs.append(len(numbers))
        return sum(numbers)

    async with working(app):
        job = await ardiq.map(square, range(1500)).then(add_up)
        assert await value(job) == sum(n * n for n in range(1500))
    assert runs == [1500]
    assert leftovers(server, queue_name) == []

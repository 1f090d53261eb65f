"""Workflows: jobs that depend on each other, sent and run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import ardiq
from ardiq import Ardiq, Job, TaskStatus
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


async def test_a_chain_passes_its_outputs_on(app: Ardiq, server: Server, queue_name: str) -> None:
    @app.task
    async def fetch(url: str) -> str:
        return f"page of {url}"

    @app.task
    def parse(page: str) -> tuple[str, int]:
        return page, len(page)

    @app.task
    async def store(page: str, size: int, *, bucket: str) -> str:
        return f"{bucket}: {page} ({size})"

    async with working(app):
        pending = fetch.enqueue("a").then(parse).then(store.options(priority="high"), bucket="b")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        assert pending.id == pending.id
        job = await pending
        assert job.id == pending.id
        assert await value(job) == "b: page of a (9)"
        piped = await (fetch.enqueue("a") | parse)
        assert await value(piped) == ("page of a", 9)
        assert await app.queue_size() == 0
    assert leftovers(server, queue_name) == []


async def test_a_tuple_unpacks_unless_the_child_says_otherwise(app: Ardiq) -> None:
    @app.task
    async def pair() -> tuple[int, str]:
        return 1, "x"

    @app.task
    async def whole(both: tuple[int, str]) -> str:
        return repr(both)

    async with working(app):
        assert await value(await pair.enqueue().then(whole.options(unpack=False))) == "(1, 'x')"


async def test_a_fallback_runs_with_the_arguments_of_the_job_that_failed(app: Ardiq) -> None:
    @app.task(max_retries=0)
    async def charge(amount: int, *, currency: str = "EUR") -> str:
        if amount > 10:
            raise ValueError("too much")
        return f"charged {amount} {currency}"

    @app.task
    async def refund(amount: int, *, currency: str = "EUR") -> str:
        return f"refunded {amount} {currency}"

    async with working(app):
        assert await value(await charge.enqueue(5).otherwise(refund)) == "charged 5 EUR"
        assert await value(await (charge.enqueue(42, currency="USD") ^ refund)) == "refunded 42 USD"


async def test_a_fallback_of_a_child_gets_its_inputs_or_only_keywords(app: Ardiq) -> None:
    @app.task(max_retries=0)
    async def first(text: str) -> str:
        if text == "fails":
            raise ValueError(text)
        return text.upper()

    @app.task(max_retries=0)
    async def second(text: str, *, times: int) -> str:
        raise ValueError(text * times)

    @app.task
    async def instead(text: str = "nothing", *, times: int) -> str:
        return f"{text} {times}"

    async with working(app):
        assert await value(await first.enqueue("a").then(second, times=2).otherwise(instead)) == "A 2"
        assert await value(await first.enqueue("fails").then(second, times=2).otherwise(instead)) == "nothing 2"


async def test_cleanup_runs_after_success_and_after_failure(app: Ardiq) -> None:
    cleaned: list[str] = []

    @app.task(max_retries=0)
    async def build(ok: bool) -> int:
        return 1 // ok

    @app.task
    async def cleanup(name: str) -> None:
        cleaned.append(name)

    async with working(app):
        await value(await build.enqueue(True).finally_(cleanup, "good"))
        await value(await build.enqueue(False).finally_(cleanup, name="bad"))
    assert cleaned == ["good", "bad"]


async def test_a_failure_names_its_root_however_long_the_chain(app: Ardiq) -> None:
    @app.task(max_retries=0)
    async def fails() -> int:
        raise ValueError

    @app.task
    async def adds(number: int) -> int:
        return number + 1

    async with working(app):
        first = fails.options(task_id="the-root").enqueue()
        pending = first.then(adds)
        for _ in range(9):
            pending = pending.then(adds)
        job = await pending
        assert await failure(job) == "dependency failed: the-root"
        assert await failure(await first) == "ValueError()"


async def test_a_node_has_any_number_of_children_and_one_await_sends_all(app: Ardiq) -> None:
    @app.task
    async def one() -> int:
        return 1

    @app.task
    async def add(n: int, *, more: int) -> int:
        return n + more

    async with working(app):
        root = one.enqueue()
        children = [root.then(add, more=more) for more in (1, 2, 3)]
        job = await root
        jobs = [await child for child in children]
        assert root.id == job.id
        assert [await value(one) for one in (job, *jobs)] == [1, 2, 3, 4]
        # Further children of what was sent already.
        assert await value(await job.then(add, more=10)) == 11
        assert await value(await jobs[0].then(add, more=10)) == 12
        with pytest.raises(RuntimeError, match="awaited already"):
            await root


async def test_children_of_jobs_that_exist(app: Ardiq) -> None:
    @app.task(max_retries=0)
    async def divide(a: int, b: int) -> float:
        return a / b

    @app.task
    async def instead(a: int, b: int) -> str:
        return f"{a}/{b}"

    @app.task(result_ttl_ms=0)
    async def unstored() -> None: ...

    @app.task
    async def show(number: float) -> str:
        return str(number)

    bad = await divide.enqueue(1, 0)
    waiting = await bad.otherwise(instead)
    assert await waiting.status() is TaskStatus.SCHEDULED
    async with working(app):
        assert await value(waiting) == "1/0"
        good = await divide.enqueue(1, 2)
        assert await value(await good.then(show)) == "0.5"
        await good.result(timeout=10)
        assert await value(await good.then(show)) == "0.5", "its stored result decides"
        assert await value(await good.otherwise(instead)) == 0.5
        assert await failure(await bad.then(show)) == f"dependency failed: {bad.id}"
        with pytest.raises(ValueError, match="has failed, so its arguments are not stored any more"):
            await bad.otherwise(instead)
        with pytest.raises(ValueError, match="the queue has no such job"):
            await show.options(after="never-was").enqueue(1.0)
        gone = await unstored.options(task_id="gone").enqueue()
        while await gone.status() is not TaskStatus.NOT_FOUND:  # noqa: ASYNC110 - nothing announces this
            await asyncio.sleep(0.01)
        with pytest.raises(ValueError, match="its result was not stored"):
            await show.options(after=gone).enqueue(1.0)


async def test_after_waits_for_jobs_ids_and_enqueues_but_takes_nothing_from_them(app: Ardiq) -> None:
    order: list[str] = []

    @app.task
    async def note(name: str) -> str:
        order.append(name)
        return name

    async with working(app):
        first = await note.options(delay_ms=50).enqueue("first")
        second = note.enqueue("second")
        last = await note.options(after=[first, second, first.id]).enqueue("last")
        assert await value(last) == "last"
        assert set(order[:2]) == {"first", "second"}
        late = await note.enqueue("late").start(after=last, delay=timedelta(milliseconds=30), priority="low")
        assert await value(late) == "late"
        timed = await note.enqueue("timed").start(schedule=datetime.now(UTC) + timedelta(milliseconds=20))
        assert await value(timed) == "timed"


async def test_aborting_parents_children_and_members(app: Ardiq) -> None:
    @app.task
    async def wait(n: int = 0) -> int:
        await asyncio.sleep(60)
        return n

    @app.task
    async def then(n: int) -> int:
        return n

    @app.task
    async def clean() -> str:
        return "clean"

    async with working(app):
        parent = wait.enqueue()
        child, cleanup = parent.then(then), parent.finally_(clean)
        grandchild = child.then(then)
        running = await parent
        assert await (await child).abort()
        assert await failure(await grandchild) == f"dependency failed: {(child.id)}"
        assert await running.status() is not TaskStatus.COMPLETE, "aborting a child leaves its parent alone"
        assert await running.abort()
        assert await value(await cleanup) == "clean"
        members = [wait.options(task_id=f"member-{n}", delay_ms=60_000).enqueue(n) for n in range(3)]
        join = await ardiq.gather(*members).then(then.options(unpack=False))
        assert await app.abort("member-1")
        assert await failure(join) == "dependency failed: member-1"
        result = await app.result("member-0", timeout=10)
        assert result.aborted, "members that have not started are not needed any more"


async def test_a_large_output_reaches_all_children(app: Ardiq, server: Server, queue_name: str) -> None:
    @app.task(result_ttl_ms=0)
    async def large() -> bytes:
        return b"x" * 200_000

    @app.task
    async def length(data: bytes) -> int:
        return len(data)

    async with working(app):
        root = large.enqueue()
        jobs = [root.then(length) for _ in range(5)]
        assert [await value(await job) for job in jobs] == [200_000] * 5
    assert leftovers(server, queue_name) == []


async def test_it_can_be_sent_without_a_loop(app: Ardiq) -> None:
    @app.task
    async def add(a: int, b: int) -> int:
        return a + b

    def send() -> Job[int]:
        return add.enqueue(1, 2).then(add, b=3).enqueue_sync()

    async with working(app):
        assert await value(await asyncio.to_thread(send)) == 6
        assert await value(await asyncio.to_thread(lambda: add.enqueue(1, 2).enqueue_sync())) == 3

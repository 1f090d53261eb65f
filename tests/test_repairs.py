"""Workers repair damage from manual changes and server faults, and callers are notified."""

import asyncio

import pytest

from ardiq import Ardiq, Job, Task, TaskResult
from tests.leftovers import leftovers
from tests.servers import Server


async def ended(job: Job[str], timeout: float | None = 30) -> TaskResult[str]:
    result = await job.result(timeout=timeout)
    assert result is not None
    return result


async def test_callers_of_jobs_whose_lane_was_deleted_are_told_and_their_ids_are_free(
    server: Server, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Ardiq(server.url, queue_name, concurrency=1, prefetch=1)
    started, released = asyncio.Event(), asyncio.Event()

    @app.task
    async def work(value: str) -> str:
        if value == "first":
            started.set()
            await released.wait()
        return value

    first = await work.options(task_id="first").enqueue("first")
    running = asyncio.create_task(app.run())
    await started.wait()
    # No caller waits for the last one.
    queued = [await work.options(task_id=f"job-{number}").enqueue("lost") for number in range(4)]
    waiting = [asyncio.create_task(ended(job, 60)) for job in queued[:2]]
    while server.cli("HLEN", f"ardiq:{{{queue_name}}}:waiters") < 2:  # noqa: ASYNC110 - the server has no event to wait for
        await asyncio.sleep(0.01)
    server.cli("DEL", f"ardiq:{{{queue_name}}}:lane:default")

    told = await asyncio.gather(*waiting)
    assert [(result.success, "was lost" in str(result.value)) for result in told] == [(False, True)] * 2
    late = await ended(queued[2], 60)
    assert not late.success, late
    # A worker checks everything when it starts.
    other = Ardiq(server.url, queue_name)
    also_running = asyncio.create_task(other.run())
    async with asyncio.timeout(60):
        while "whose entry was deleted from Redis" not in caplog.text:  # noqa: ASYNC110 - the log has no event to wait for
            await asyncio.sleep(0.01)
    other.stop()
    await also_running
    assert not (await ended(queued[3])).success
    again = await work.options(task_id="job-0").enqueue("again")
    released.set()
    assert (await ended(first)).value == "first"
    assert (await ended(again)).value == "again"
    app.stop()
    await running
    assert leftovers(server, queue_name) == []


async def test_a_queue_with_keys_of_the_wrong_type_is_served(
    server: Server, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Ardiq(server.url, queue_name)

    @app.task
    async def work() -> str:
        return "done"

    names = ("due", "running", "waiters", "workers", "worker-info", "lanes", "lane:default", "returned:default")
    for name in names:
        server.cli("SET", f"ardiq:{{{queue_name}}}:{name}", "odd")
    later = await work.options(delay_ms=10).enqueue()
    jobs = [await work.enqueue(), later]
    async with asyncio.timeout(30):
        await app.run(burst=True)
        results = [await ended(job) for job in jobs]
    assert [result.value for result in results] == ["done", "done"]
    assert all(
        f"the key ardiq:{{{queue_name}}}:{name} had the wrong type" in caplog.text for name in ("workers", "running")
    )
    assert all(server.cli("GET", f"ardiq:{{{queue_name}}}:aside:{name}") == b"odd" for name in names)


async def test_a_user_who_may_not_publish_makes_each_job_once_and_its_result_is_found(
    server: Server, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"user-{queue_name}"
    server.cli("ACL", "SETUSER", user, "on", ">pw", "~*", "resetchannels", "+@all")
    own = Ardiq(server.url.replace("redis://", f"redis://{user}:pw@"), queue_name)

    @own.task
    async def work() -> str:
        return "done"

    jobs = [await work.options(delay_ms=1).enqueue() for _ in range(3)]
    assert await own.queue_size() == len(jobs)
    async with asyncio.timeout(30):
        await own.run(burst=True)
    assert [(await ended(job, None)).value for job in jobs] == ["done"] * 3
    assert caplog.text.count(f"+publish &ardiq:{{{queue_name}}}:*") == 1


async def test_an_app_that_only_reads_registers_nothing(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name)
    assert await app.queue_size() == 0
    assert (await app.inspect())["lanes"] == []
    assert await app.jobs("queued") == []
    assert queue_name not in await app.queues()


async def test_a_job_whose_consumer_was_deleted_is_not_started_again_while_it_runs(
    server: Server, queue_name: str
) -> None:
    starts: list[str] = []
    started, released = asyncio.Event(), asyncio.Event()

    def worker(*priorities: str) -> tuple[Ardiq, Task[[str], str]]:
        app = Ardiq(server.url, queue_name, priorities=priorities)

        @app.task(name="work")
        async def work(value: str) -> str:
            starts.append(value)
            if value == "first":
                started.set()
                await released.wait()
            return value

        return app, work

    app, work = worker("default")
    first = await work.enqueue("first")
    running = asyncio.create_task(app.run())
    await started.wait()
    async with asyncio.timeout(30):
        while not server.cli("HLEN", f"ardiq:{{{queue_name}}}:running"):  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.01)

    # A consumer takes a job of a lane that is checked after the other one, and is deleted as well.
    other, others_work = worker("default", "other")
    second = await others_work.options(priority="other").enqueue("second")
    lane = f"ardiq:{{{queue_name}}}:lane:other"
    server.cli("XGROUP", "CREATE", lane, queue_name, "0")
    server.cli("XREADGROUP", "GROUP", queue_name, "unknown", "STREAMS", lane, ">")
    for stream in (lane, f"ardiq:{{{queue_name}}}:lane:default"):
        for consumer in server.cli("XINFO", "CONSUMERS", stream, queue_name):
            server.cli("XGROUP", "DELCONSUMER", stream, queue_name, consumer[b"name"])

    also_running = asyncio.create_task(other.run(burst=True))
    assert (await ended(second)).value == "second"
    released.set()
    await also_running  # all jobs have ended
    assert (await ended(first)).value == "first"
    assert starts == ["first", "second"]
    app.stop()
    await running
    assert leftovers(server, queue_name) == []

"""Dynamic schedules fire on workers that are already running, and schedules can be paused."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ardiq import Ardiq, TaskStatus, current_task
from tests.leftovers import leftovers
from tests.servers import Server

MakeServer = Callable[..., Server]

MOST_S = 20
"""How long to wait for something that should take about a second."""


class Fired:
    """Notes the occurrences of jobs, and waits for them."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._more = asyncio.Condition()

    async def __call__(self) -> None:
        context = current_task()
        assert context is not None
        async with self._more:
            self.ids.append(context.task_id)
            self._more.notify_all()

    async def wait(self, count: int = 1, *, of: str = "") -> None:
        """Wait for `count` further occurrences, of one schedule if it is named."""
        async with asyncio.timeout(MOST_S), self._more:
            before = len(self.of(of))
            await self._more.wait_for(lambda: len(self.of(of)) >= before + count)

    def of(self, name: str) -> list[str]:
        return [one for one in self.ids if one.startswith(f"cron:{name}")]


@pytest.fixture
async def fired() -> Fired:
    return Fired()


def app_on(server: Server, queue_name: str, fired: Fired) -> Ardiq:
    app = Ardiq(server.url, queue_name, cron_poll_s=0.2)

    @app.task(name="beat")
    async def beat(text: str = "") -> str:
        await fired()
        return text

    return app


@pytest.fixture
def app(server: Server, queue_name: str, fired: Fired) -> Ardiq:
    return app_on(server, queue_name, fired)


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """Ask the server until the condition holds."""
    async with asyncio.timeout(MOST_S):
        while not await condition():  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)


@asynccontextmanager
async def working(*apps: Ardiq) -> AsyncIterator[None]:
    """Workers that have signed on, during the block."""
    async with asyncio.timeout(60):
        workers = [asyncio.create_task(app.run(shutdown_grace_s=5)) for app in apps]
        try:
            while len((await apps[0].inspect())["workers"]) < len(apps):  # noqa: ASYNC110 - the server is asked
                await asyncio.sleep(0.01)
            yield
        finally:
            for app in apps:
                app.stop()
            await asyncio.gather(*workers)


async def test_a_schedule_that_is_created_fires_within_about_a_second(app: Ardiq, fired: Fired) -> None:
    async with working(app):
        loop = asyncio.get_running_loop()
        began = loop.time()
        beat = await app.ref("beat").options(every=0.1).enqueue("x")
        await fired.wait(3)
        assert loop.time() - began < 5
        info = await beat.info()
        assert info is not None
        assert info.last_task_id is not None
        result = await app.result(info.last_task_id, timeout=10)
        assert (result.success, result.value) == (True, "x")
    moments = [int(one.split(":")[2]) for one in fired.ids]
    assert all(moment % 100 == 0 for moment in moments)
    assert len(set(moments)) == len(moments)


async def test_each_occurrence_fires_once_among_workers_of_which_some_do_not_know_the_task(
    server: Server, queue_name: str, fired: Fired
) -> None:
    apps = [app_on(server, queue_name, fired), app_on(server, queue_name, fired)]
    async with working(*apps):
        await apps[0].ref("beat").options(every=0.1).enqueue()
        await fired.wait(10)
        await apps[0].unschedule("beat")
    assert len(set(fired.ids)) == len(fired.ids)


async def test_a_worker_that_does_not_know_the_task_fires_the_schedule_and_the_job_waits(
    server: Server, queue_name: str, fired: Fired
) -> None:
    stranger = Ardiq(server.url, queue_name)
    async with working(stranger):
        beat = await stranger.ref("beat").options(every=0.2, coalesce=True).enqueue()
        listed = await beat.info()

        async def has_fired() -> bool:
            nonlocal listed
            listed = await beat.info()
            return listed is not None and listed.last_run is not None

        await eventually(has_fired)
        assert listed is not None
        assert listed.last_task_id is not None
        waiting = asyncio.create_task(stranger.result(listed.last_task_id, timeout=MOST_S))
        await beat.pause()
        async with working(app_on(server, queue_name, fired)):
            assert (await waiting).success


async def test_a_new_plan_replaces_the_old_one_on_running_workers(app: Ardiq, fired: Fired) -> None:
    ping = app.ref("beat")
    async with working(app):
        await ping.options(schedule="0 0 1 1 *").enqueue("old")
        await ping.options(every=0.1).enqueue("new")
        await fired.wait(2)
        info = await app.schedule("beat").info()
        assert info is not None
        assert info.args == ("new",)
        await ping.options(schedule="0 0 1 1 *").enqueue("rare")
        seen = len(fired.ids)
        await ping.options(every=0.1, task_id="other").enqueue()
        await fired.wait(5, of="other")
        # At most the jobs that were enqueued before the change.
        assert len(fired.of("beat:")) - seen <= 2


@pytest.mark.parametrize("ends", ["pause", "unschedule"])
async def test_a_schedule_that_was_paused_or_removed_stops_at_once(
    app: Ardiq, fired: Fired, server: Server, ends: str
) -> None:
    async with working(app):
        beat = await app.ref("beat").options(every=0.05).enqueue()
        await fired.wait(3)
        assert await getattr(beat, ends)()
        seconds, micros = server.client().time()
        stopped_ms = seconds * 1000 + micros // 1000
        await app.ref("beat").options(every=0.1, task_id="other").enqueue()
        await fired.wait(8, of="other")
        assert all(int(one.split(":")[2]) <= stopped_ms for one in fired.of("beat:"))
        if ends == "pause":
            assert await beat.resume()
            await fired.wait(2, of="beat:")
    late = [int(one.split(":")[2]) - stopped_ms for one in fired.of("beat:")]
    assert not [one for one in late if 0 < one < 300], "what was due while it was paused"


async def test_a_schedule_of_the_code_is_listed_paused_and_resumed(
    app: Ardiq, fired: Fired, server: Server, queue_name: str
) -> None:
    @app.cron(every=0.05, name="tick", priority="default")
    async def tick() -> None:
        await fired()

    service = Ardiq(server.url, queue_name)
    async with working(app):
        await fired.wait(2)
        await eventually(service.schedules)
        listed = await service.schedules()
        assert [(one.name, one.fn_name, one.every_ms, one.dynamic) for one in listed] == [("tick", "tick", 50, False)]
        with pytest.raises(ValueError, match="is in the code of a worker"):
            await service.unschedule("tick")
        with pytest.raises(ValueError, match="belongs to a schedule in the code"):
            await service.ref("tick").options(every=5).enqueue()
        assert await service.schedule("tick").pause()
        seen = len(fired.ids)
        await service.ref("beat").options(every=0.1).enqueue()
        await fired.wait(5, of="beat:")
        assert len(fired.of("tick:")) - seen <= 2
        assert (await service.schedule("tick").fire()).id.startswith("cron:tick:")
        assert await service.schedule("tick").resume()
        await fired.wait(2, of="tick:")
        info = await service.schedule("tick").info()
        assert info is not None
        assert info.last_status is not None
        await service.unschedule("beat")
    await app.run(burst=True)  # runs what was enqueued last
    assert leftovers(server, queue_name) == []


async def test_a_pause_outlives_the_workers(server: Server, queue_name: str, fired: Fired) -> None:
    def made() -> Ardiq:
        app = app_on(server, queue_name, fired)
        app.cron(every=0.05, name="tick")(fired.__call__)
        return app

    first = made()
    async with working(first):
        await fired.wait()
        await eventually(first.schedule("tick").pause)
    seen = len(fired.ids)
    second = made()
    async with working(second):
        await second.ref("beat").options(every=0.1).enqueue()
        await fired.wait(5, of="beat:")
        assert len(fired.of("tick:")) - seen <= 1, "a job that was enqueued before"


async def test_overlapping_jobs_are_skipped(app: Ardiq, fired: Fired) -> None:
    running, most, total = 0, 0, 0
    done = asyncio.Event()

    @app.task
    async def slow() -> None:
        nonlocal running, most, total
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.25)
        running -= 1
        total += 1
        if total == 3:
            done.set()

    async with working(app):
        await slow.options(every=0.05, coalesce=True).enqueue()
        async with asyncio.timeout(MOST_S):
            await done.wait()
    assert most == 1


async def test_what_became_of_the_last_job_is_listed(app: Ardiq, fired: Fired) -> None:
    @app.task(max_retries=0)
    async def broken() -> None:
        raise ValueError("no")

    async with working(app):
        beat = await broken.options(every=3600).enqueue()
        await (await beat.fire()).result(timeout=10)
        info = await beat.info()
        assert info is not None
        assert (info.last_status, info.last_success) == (TaskStatus.COMPLETE, False)
        assert info.last_error == "ValueError('no')"


async def test_schedules_survive_a_restart_of_the_server_and_an_emptied_one_has_none(
    make_server: MakeServer, queue_name: str, fired: Fired
) -> None:
    server = make_server(append_only=True)
    app = app_on(server, queue_name, fired)
    app.cron(every=0.1, name="tick")(fired.__call__)
    async with working(app):
        await app.ref("beat").options(every=0.1).enqueue()
        await fired.wait(2, of="beat:")
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await fired.wait(3, of="beat:")
        server.cli("FLUSHALL")
        await fired.wait(3, of="tick:")
        beats = len(fired.of("beat:"))
        await fired.wait(5, of="tick:")
        assert len(fired.of("beat:")) - beats <= 1
        await app.ref("beat").options(every=0.1).enqueue()
        await fired.wait(2, of="beat:")


async def test_a_worker_in_burst_mode_reads_no_schedules_until_it_leaves_that_mode(
    make_server: MakeServer, queue_name: str, fired: Fired
) -> None:
    server = make_server()
    app = app_on(server, queue_name, fired)
    await app.ref("beat").options(every=0.1).enqueue()
    release = asyncio.Event()

    @app.task
    async def hold() -> None:
        await release.wait()

    await hold.enqueue()
    async with asyncio.timeout(60):
        worker = asyncio.create_task(app.run(burst=True))
        await eventually(lambda: app.jobs("running"))
        assert not fired.ids
        app.burst = False
        await fired.wait(2)
        release.set()
        app.stop()
        await worker


async def test_a_worker_without_schedules_asks_for_them_rarely(make_server: MakeServer, queue_name: str) -> None:
    server = make_server()
    app = Ardiq(server.url, queue_name)

    def reads() -> int:
        return sum(
            int(facts["calls"])
            for name, facts in server.cli("INFO", "commandstats").items()
            if name in ("cmdstat_hscan", "cmdstat_hget")
        )

    async with working(app):
        before = reads()
        await asyncio.sleep(2.5)  # what is counted happens in this time
        # Twelve pages of `scrub` at most, and one check of the schedules.
        assert reads() - before <= 20


async def test_a_zone_that_this_worker_does_not_know_is_reported_and_the_others_fire(
    app: Ardiq, fired: Fired, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ardiq.cron.check_zone", lambda zone: zone or "UTC")
    await app.ref("beat").options(schedule="* * * * * *", tz="Europe/Nowhere", task_id="odd").enqueue()
    await app.ref("beat").options(every=0.1).enqueue()
    async with working(app):
        await fired.wait(2)
        listed = {one.name: one.next_run for one in await app.schedules()}
    assert listed["odd"] is None
    assert "this worker cannot fire schedule of 'odd'" in caplog.text

"""Dynamic schedules as clients see them: options, names, handles and lists. No worker runs."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ardiq import (
    Ardiq,
    InvalidIdError,
    Job,
    PayloadTooLargeError,
    Schedule,
    ScheduledTask,
    ScheduleInfo,
    ScheduleNotFoundError,
    TaskStatus,
    WorkerNotInstalledError,
)
from ardiq.dispatch import CALL_OPTIONS, SCHEDULE_OPTIONS
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    app = Ardiq(server.url, queue_name, priorities=["low", "default"])

    @app.task(name="ping")
    async def ping(host: str = "a", *, count: int = 1) -> str:
        return host * count

    return app


def now_ms(server: Server) -> int:
    seconds, micros = server.client().time()
    return int(seconds) * 1000 + int(micros) // 1000


async def info_of(schedule: Schedule[Any]) -> ScheduleInfo:
    info = await schedule.info()
    assert info is not None
    return info


async def test_a_schedule_has_the_name_of_its_task_or_another_one(app: Ardiq) -> None:
    ping = app.ref("ping")
    beat = await ping.options(every=30).enqueue("x", count=2)
    assert (beat.name, beat.app, beat) == ("ping", app, app.schedule("ping"))
    other = await ping.options(schedule="0 3 * * *", task_id="nightly").enqueue()
    assert repr(other) == "<Schedule nightly>"
    assert len({beat, other, app.schedule("nightly")}) == 2
    assert [(one.name, one.fn_name) for one in await app.schedules()] == [("nightly", "ping"), ("ping", "ping")]
    assert await app.schedules() == await asyncio.to_thread(app.schedules_sync)


async def test_a_schedule_says_all_that_is_known(app: Ardiq, server: Server) -> None:
    timing: dict[str, Any] = {"tz": "Europe/Berlin", "coalesce": True, "max_schedule_drift": timedelta(hours=1)}
    options = app.ref("ping").options(schedule=" 0 3 * * * ", task_id="nightly", priority="low", **timing)
    info = await info_of(await options.enqueue("x", count=2))
    assert info.next_run is not None
    assert info.next_run > now_ms(server)
    assert info == ScheduleInfo(
        name="nightly",
        fn_name="ping",
        spec="0 3 * * *",
        every_ms=None,
        tz="Europe/Berlin",
        dynamic=True,
        paused=False,
        next_run=info.next_run,
        last_run=None,
        last_task_id=None,
        last_status=None,
        last_success=None,
        last_error=None,
        coalesce=True,
        max_schedule_drift_ms=3_600_000,
        lane="low",
        args=("x",),
        kwargs={"count": 2},
    )


async def test_the_next_occurrence_is_that_of_the_zone(app: Ardiq) -> None:
    beat = await app.ref("ping").options(schedule="0 12 1 1 *", tz="America/New_York").enqueue()
    next_ms = await beat.next()
    assert next_ms is not None
    moment = datetime.fromtimestamp(next_ms / 1000, UTC)
    assert (moment.month, moment.day, moment.hour) == (1, 1, 17)
    assert next_ms == await asyncio.to_thread(beat.next_sync) == (await info_of(beat)).next_run


async def test_the_next_occurrence_of_an_interval_is_aligned(app: Ardiq, server: Server) -> None:
    beat = await app.ref("ping").options(every=timedelta(hours=1)).enqueue()
    before = now_ms(server)
    next_ms = await beat.next()
    assert next_ms is not None
    assert next_ms % 3_600_000 == 0
    assert 0 < next_ms - before <= 3_600_000


async def test_without_the_worker_the_times_of_an_expression_are_unknown(
    app: Ardiq, monkeypatch: pytest.MonkeyPatch
) -> None:
    cron = await app.ref("ping").options(schedule="@daily").enqueue()
    every = await app.ref("ping").options(every=60, task_id="every").enqueue()
    monkeypatch.setitem(sys.modules, "ardiq_worker.occurrences", None)
    assert (await info_of(cron)).next_run is None
    with pytest.raises(WorkerNotInstalledError, match="it needs ardiq-worker"):
        await cron.next()
    assert await every.next() is not None
    assert await cron.pause()
    assert await cron.next() is None


async def test_a_schedule_is_paused_and_resumed(app: Ardiq) -> None:
    beat = await app.ref("ping").options(every=30).enqueue()
    assert await beat.pause()
    assert await beat.pause()
    info = await info_of(beat)
    assert (info.paused, info.next_run, await beat.next()) == (True, None, None)
    again = await app.ref("ping").options(every=60).enqueue()
    assert (await info_of(again)).paused, "a replaced schedule stays paused"
    assert await beat.resume()
    assert await beat.resume()
    assert not (await info_of(beat)).paused


async def test_a_schedule_is_removed_by_its_handle_or_its_name(app: Ardiq) -> None:
    beat = await app.ref("ping").options(every=30).enqueue()
    assert await beat.unschedule()
    assert not await beat.unschedule()
    assert await beat.info() is None
    assert await beat.next() is None
    assert not await beat.pause()
    assert not await beat.resume()
    await app.ref("ping").options(every=30).enqueue()
    assert await app.unschedule("ping")
    assert not await asyncio.to_thread(app.unschedule_sync, "ping")
    assert await app.schedules() == []


async def test_a_schedule_is_fired_by_hand(app: Ardiq) -> None:
    beat = await app.ref("ping").options(every=3600, task_id="often").enqueue("x", count=3)
    assert await beat.pause()
    before = await beat.app.queue_size()
    job = await beat.fire()
    kind, name, moment = job.id.split(":")
    assert (kind, name) == ("cron", "often")
    snapshot = await job.info()
    assert snapshot is not None
    assert (snapshot.fn_name, snapshot.args, snapshot.kwargs) == ("ping", ("x",), {"count": 3})
    assert await app.queue_size() == before + 1
    info = await info_of(beat)
    assert (info.last_run, info.last_task_id, info.last_status) == (int(moment), job.id, TaskStatus.QUEUED)
    assert (info.last_success, info.last_error) == (None, None)
    assert await job.abort()
    info = await info_of(beat)
    assert (info.last_status, info.last_success, info.last_error) == (TaskStatus.COMPLETE, False, "aborted")
    with pytest.raises(ScheduleNotFoundError, match=r"has no schedule 'unknown'; app.schedules\(\) lists them"):
        await app.schedule("unknown").fire()


async def test_the_job_of_a_unique_task_that_is_unfinished_is_returned(app: Ardiq) -> None:
    beat = await app.ref("ping").options(every=3600, unique=True).enqueue("x")
    job = await beat.fire()
    assert await beat.fire() == job
    assert await app.ref("ping").options(unique=True).enqueue("x") == job


def test_code_without_a_loop_does_the_same(app: Ardiq) -> None:
    beat = app.ref("ping").options(every=3600).enqueue_sync("x")
    assert isinstance(beat, Schedule)
    assert beat.pause_sync()
    assert beat.resume_sync()
    job = beat.fire_sync()
    assert isinstance(job, Job)
    info = beat.info_sync()
    assert info is not None
    assert (info.last_task_id, info.args) == (job.id, ("x",))
    assert beat.unschedule_sync()
    assert beat.info_sync() is None


async def test_enqueuing_the_same_schedule_again_changes_nothing(app: Ardiq, server: Server, queue_name: str) -> None:
    options = app.ref("ping").options(every=30)
    await options.enqueue("x")
    before = server.cli("HGETALL", f"ardiq:{{{queue_name}}}:schedules")
    await options.enqueue("x")
    assert server.cli("HGETALL", f"ardiq:{{{queue_name}}}:schedules") == before
    await options.enqueue("y")
    assert server.cli("HGETALL", f"ardiq:{{{queue_name}}}:schedules") != before


async def test_the_arguments_are_checked_before_anything_is_sent(app: Ardiq) -> None:
    @app.task
    async def add(a: int, b: int) -> int:
        return a + b

    beat: Any = add.options(every=30)
    with pytest.raises(TypeError, match="needs its argument 'b'"):
        beat.enqueue(1)
    large = app.ref("ping").options(every=30)
    with pytest.raises(PayloadTooLargeError, match="more than the 4096 that a schedule may have"):
        await large.enqueue("x" * 4096)
    await large.enqueue("x" * 4000)
    assert [one.name for one in await app.schedules()] == ["ping"]


async def test_the_name_of_a_schedule_in_the_code_is_taken(app: Ardiq) -> None:
    @app.cron(every=60)
    async def tidy() -> None: ...

    with pytest.raises(ValueError, match=r"'tidy' belongs to a schedule in the code .* task_id="):
        await tidy.options(every=30).enqueue()
    assert (await tidy.options(every=30, task_id="often").enqueue()).name == "often"


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"schedule": "* * *"}, ValueError, "five fields"),
    ({"schedule": "0 0 30 2 *"}, ValueError, "never fire"),
    ({"schedule": 5}, TypeError, "pass every="),
    ({"schedule": "@daily", "every": 5}, TypeError, "exactly one of schedule= and every="),
    ({"tz": "Europe/Berlin"}, TypeError, "exactly one of schedule= and every="),
    ({"coalesce": True}, TypeError, "exactly one of schedule= and every="),
    ({"every": 0}, ValueError, "more than zero"),
    ({"every": 5, "tz": "Europe/Berlin"}, TypeError, "tz= is for cron expressions"),
    ({"schedule": "@daily", "tz": "Nowhere"}, ValueError, "not a known time zone"),
    ({"every": 5, "delay_ms": 1}, TypeError, "it has no delay_ms or schedule_ms"),
    ({"every": 5, "schedule_ms": 1}, TypeError, "it has no delay_ms or schedule_ms"),
    ({"every": 5, "task_id": "a b"}, InvalidIdError, "without spaces"),
    ({"every": 5, "task_id": "n" * 231}, InvalidIdError, "at most 230"),
    ({"every": 5, "priority": "high"}, ValueError, "priority"),
    ({"every": 5, "schedul": "@daily"}, TypeError, "no option 'schedul'; did you mean 'schedule'"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[str(options) for options, _, _ in BAD])
def test_bad_options_are_refused(app: Ardiq, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        app.ref("ping").options(**options)


def test_a_task_with_a_schedule_can_only_be_enqueued(app: Ardiq) -> None:
    made = app.ref("ping").options(every=5, task_id="beat")
    assert isinstance(made, ScheduledTask)
    assert (made.name, repr(made)) == ("beat", "<ScheduledTask ping as beat>")
    assert not hasattr(made, "prepare")
    assert not set(CALL_OPTIONS) & set(SCHEDULE_OPTIONS)


async def test_a_schedule_that_is_never_awaited_is_not_created_and_warns(app: Ardiq) -> None:
    beat: Any = app.ref("ping").options(every=30)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        beat.enqueue()
    assert await app.schedules() == []


async def test_schedules_can_be_created_at_the_same_time(app: Ardiq) -> None:
    ping = app.ref("ping")
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(ping.options(every=60, task_id=f"beat-{number:02}").enqueue())
    assert [one.name for one in await app.schedules()] == [f"beat-{number:02}" for number in range(20)]


async def test_what_another_program_wrote_hides_no_schedule(app: Ardiq, server: Server, queue_name: str) -> None:
    await app.ref("ping").options(every=30).enqueue()
    server.cli("HSET", f"ardiq:{{{queue_name}}}:schedules", "odd", "x", "long", "da" + "x" * 40, "zz", b"\xff" * 40)
    assert [one.name for one in await app.schedules()] == ["ping"]

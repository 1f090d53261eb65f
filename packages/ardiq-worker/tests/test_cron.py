"""Schedules fire, on a real server."""

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest

from ardiq import Ardiq, current_task
from ardiq.cron import Timing
from ardiq_worker.schedule import Timer
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name)


def fired_ms() -> int:
    """Return the occurrence of the current run, which its id contains."""
    context = current_task()
    assert context is not None
    kind, name, moment = context.task_id.split(":")
    assert (kind, name) == ("cron", "tick")
    assert context.tries == 1
    return int(moment)


async def until_stopped(*apps: Ardiq, **overrides: Any) -> None:
    async with asyncio.timeout(30):
        await asyncio.gather(*(app.run(**overrides) for app in apps))


@pytest.mark.parametrize("sync", [False, True])
async def test_five_times_a_second_means_five_times_a_second(app: Ardiq, sync: bool) -> None:
    moments: list[int] = []

    def note() -> None:
        moments.append(fired_ms())
        if len(moments) == 8:
            app.stop()

    async def note_on_the_loop() -> None:
        note()

    app.cron(every=0.2, name="tick")(note if sync else note_on_the_loop)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await until_stopped(app)
    took = loop.time() - began
    steps = [later - earlier for earlier, later in pairwise(moments)]
    assert all(moment % 200 == 0 for moment in moments)
    # A machine that pauses for a while may skip one. The others follow in order.
    assert steps.count(200) >= 6
    assert took < 3.0


async def test_an_expression_with_seconds_fires_on_the_second(app: Ardiq) -> None:
    moments: list[int] = []

    @app.cron("* * * * * *")
    async def tick() -> None:
        moments.append(fired_ms())
        if len(moments) == 2:
            app.stop()

    await until_stopped(app)
    assert all(moment % 1000 == 0 for moment in moments)
    assert moments[1] - moments[0] in (1000, 2000)


async def test_the_schedule_is_looked_at_once_per_poll_and_no_more_often(
    server: Server, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Ardiq(server.url, queue_name, cron_poll_s=0.02)
    clock = asyncio.get_running_loop().time
    looks: list[float] = []

    class Watched(Timer):
        def _look(self, mailbox: Any) -> None:
            looks.append(clock())
            if len(looks) == 30:
                app.stop()
            super()._look(mailbox)

    monkeypatch.setattr("ardiq_worker.runner.Timer", Watched)

    @app.cron("0 0 29 2 *")
    async def tick() -> None: ...

    async with asyncio.timeout(10):  # the next occurrence is days away
        await app.run()
    assert min(later - earlier for earlier, later in pairwise(looks)) > 0.015


async def test_an_occurrence_fires_once_however_many_workers_there_are(server: Server, queue_name: str) -> None:
    moments: list[int] = []
    apps = [Ardiq(server.url, queue_name) for _ in range(3)]

    async def tick() -> None:
        moments.append(fired_ms())
        if len(moments) == 6:
            for app in apps:
                app.stop()

    for app in apps:
        app.cron(every=0.1)(tick)
    await until_stopped(*apps)
    assert len(set(moments)) == len(moments) >= 6
    assert all(moment % 100 == 0 for moment in moments)


async def test_occurrences_are_those_of_the_server_s_clock_whatever_the_worker_s_says(
    app: Ardiq, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments: list[int] = []

    @app.cron(every=0.1)
    async def tick() -> None:
        moments.append(fired_ms())
        if len(moments) == 3:
            app.stop()

    wrong_s = time.time() + 86_400.0
    monkeypatch.setattr(time, "time", lambda: wrong_s)
    monkeypatch.setattr(time, "time_ns", lambda: int(wrong_s * 1e9))
    seconds, micros = server.client().time()
    began_ms = seconds * 1000 + micros // 1000
    await until_stopped(app)
    seconds, micros = server.client().time()
    assert began_ms < moments[0] <= moments[-1] <= seconds * 1000 + micros // 1000


async def test_occurrences_while_no_worker_runs_are_skipped(app: Ardiq) -> None:
    moments: list[int] = []

    @app.cron(every=0.1)
    async def tick() -> None:
        moments.append(fired_ms())
        if len(moments) in (2, 4):
            app.stop()

    await until_stopped(app)
    stopped = len(moments)
    await asyncio.sleep(0.5)  # the pause is what is tested: five occurrences pass
    await until_stopped(app)
    assert moments[stopped] - moments[stopped - 1] >= 500
    assert len(moments) == 4


async def test_nothing_fires_in_burst_mode(app: Ardiq) -> None:
    fired: list[int] = []

    @app.cron(every=0.01)
    async def tick() -> None:
        fired.append(1)

    @app.task
    async def work() -> None:
        await asyncio.sleep(0.1)

    await work.enqueue()
    await until_stopped(app, burst=True)
    assert not fired


async def test_a_schedule_that_went_from_the_code_stops(app: Ardiq, server: Server, queue_name: str) -> None:
    fired = asyncio.Event()

    @app.cron(every=0.05)
    async def tick() -> None:
        fired.set()
        app.stop()

    await until_stopped(app)
    assert fired.is_set()
    newer = Ardiq(server.url, queue_name)
    fired_again: list[int] = []

    @newer.task(name="tick")
    async def no_schedule() -> None:
        fired_again.append(1)

    @newer.task
    async def end() -> None:
        newer.stop()

    await newer.run(burst=True)  # takes what the old worker may have left
    fired_again.clear()
    await end.options(delay_ms=200).enqueue()
    await until_stopped(newer)
    assert not fired_again


async def test_an_expression_that_never_comes_true_is_refused_at_the_start(app: Ardiq) -> None:
    @app.cron("0 0 29 2 *")
    async def tick() -> None: ...

    # A schedule that the client accepts, because it computes no dates.
    app._schedules["tick"] = app._schedules["tick"]._replace(timing=Timing("0 0 30 2 *", None))
    with pytest.raises(ValueError, match="'tick'"):
        await until_stopped(app)
    assert app._running.runner is None


@pytest.mark.parametrize("step_s", [5, 30, 3600])
async def test_a_schedule_goes_on_and_warns_after_the_clock_was_set_back(
    app: Ardiq, server: Server, caplog: pytest.LogCaptureFixture, step_s: int
) -> None:
    # As it looks afterwards: what was fired last is in the future.
    seconds, _ = server.client().time()
    server.cli("HSET", f"ardiq:{{{app.queue_name}}}:cron", "tick", (seconds + step_s) * 1000)
    loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    moments: list[float] = []

    @app.cron(every=1)
    async def tick() -> None:
        moments.append(loop.time() - began)
        if len(moments) == 2:
            app.stop()

    with caplog.at_level("WARNING", "ardiq"):
        await until_stopped(app)
    assert moments[0] < 2.5
    assert [line.message for line in caplog.records if "clock was set back" in line.message][1:] == []
    assert "schedule of tick" in caplog.text

"""`app.stop()` at every moment of a run: before its first step, while it starts, from other
threads, twice.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ardiq import Ardiq
from ardiq.host import Host
from ardiq.options import run_settings
from ardiq_worker.runner import Runner
from ardiq_worker.threads import ThreadPool
from tests.servers import Server


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(server.url, queue_name)


async def ends(run: Any) -> None:
    async with asyncio.timeout(20):
        await run


async def works(app: Ardiq) -> None:
    """A later run of the same app serves the queue until it is stopped."""
    done = asyncio.Event()

    async def say() -> None:
        done.set()

    task = app.task(name="say")(say) if "say" not in app.tasks else app._registry["say"]
    task.fn = say
    run = asyncio.create_task(app.run())
    await task.enqueue()
    async with asyncio.timeout(20):
        await done.wait()
    assert not run.done()
    app.stop()
    await ends(run)


async def test_a_stop_before_the_first_step(app: Ardiq) -> None:
    run = asyncio.create_task(app.run())
    app.stop()
    await ends(run)
    await works(app)


async def test_a_stop_before_the_first_step_needs_no_server() -> None:
    app = Ardiq("redis://localhost:1", connect_timeout_s=60)
    run = asyncio.create_task(app.run())
    app.stop()
    await ends(run)


async def test_a_stop_before_the_coroutine_is_awaited(app: Ardiq) -> None:
    run = app.run()
    await asyncio.sleep(0)
    app.stop()
    app.stop()
    await ends(run)
    await works(app)


async def test_a_stop_from_another_thread_before_the_first_step(app: Ardiq) -> None:
    run = asyncio.create_task(app.run())
    threads = [threading.Thread(target=app.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await ends(run)
    await works(app)


async def test_a_stop_before_the_run_is_asked_for_does_nothing(app: Ardiq) -> None:
    app.stop()
    await works(app)
    app.stop()
    await works(app)


async def test_a_stop_in_the_first_step_after_the_start(app: Ardiq) -> None:
    run = asyncio.create_task(app.run())
    await asyncio.sleep(0)
    app.stop()
    await ends(run)
    await works(app)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_stop_while_the_runner_is_made(app: Ardiq, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call it as another thread may, while the app does not know the runner yet."""

    def stops(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            if when == "before":
                app.stop()
            thing = make(*args, **kwargs)
            if when == "after":
                app.stop()
            return thing

        return made

    with monkeypatch.context() as patched:
        patched.setattr("ardiq_worker.runner.ThreadPool", stops(ThreadPool))
        await ends(app.run())
    await works(app)


async def test_every_run_that_was_asked_for_before_a_stop_ends(app: Ardiq) -> None:
    runs = [asyncio.create_task(app.run()) for _ in range(3)]
    app.stop()
    for run in runs:
        await ends(run)
    await works(app)


def test_a_stop_for_a_run_on_a_new_loop_is_not_lost_on_the_runner_of_a_closed_one(app: Ardiq) -> None:
    loop = asyncio.new_event_loop()

    async def make() -> Runner:
        return Runner(Host(app), run_settings(app, {}))

    app._running.runner = loop.run_until_complete(make())
    loop.close()

    async def main() -> None:
        run = asyncio.create_task(app.run())
        app.stop()
        await ends(run)
        await works(app)

    asyncio.run(main())


async def test_wrong_options_are_refused_also_when_it_was_stopped(app: Ardiq) -> None:
    run = app.run(concurrency=0)
    app.stop()
    with pytest.raises(ValueError, match="concurrency"):
        await run

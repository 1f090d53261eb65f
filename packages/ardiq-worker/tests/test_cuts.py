"""How the executor aborts runs, without a server."""

import asyncio
import logging
import threading

import pytest

from ardiq import Abort
from ardiq_core import ABORTED
from tests.bench import Bench


async def test_an_abort_whose_text_raises_is_one_all_the_same() -> None:
    class Odd(Abort):
        def __str__(self) -> str:
            raise KeyError

    async def odd() -> None:
        raise Odd

    bench = Bench()
    outcome = await bench.run(odd, max_retries=3)
    assert outcome.kind == ABORTED
    assert str(outcome.value).startswith("aborted: ")
    assert "Odd" in str(outcome.value)


@pytest.mark.parametrize("sync", [False, True])
async def test_a_run_that_cannot_be_cancelled_is_abandoned_as_aborted(
    sync: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ardiq")
    bench = Bench(cancel_wait_s=0.01)
    begun, go = asyncio.Event(), threading.Event()

    async def stubborn() -> None:
        begun.set()
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if go.is_set():
                    raise

    loop = asyncio.get_running_loop()

    def block() -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait(20)

    bench.app.task(name="stubborn")(block if sync else stubborn)
    slot = bench.start("stubborn")
    async with asyncio.timeout(10):
        await begun.wait()
    bench.executor.abort([slot, slot, 99])
    outcome = await bench.next()
    assert (outcome.slot, outcome.kind, outcome.value) == (slot, ABORTED, "aborted")
    assert bench.executor.failed == 0
    assert [vars(record)["outcome"] for record in caplog.records if "was aborted" in record.getMessage()] == ["aborted"]
    go.set()
    await bench.executor.close()
    assert bench.outcomes.empty()


async def test_a_run_that_is_being_stopped_is_returned() -> None:
    bench = Bench()

    async def work() -> None:
        await asyncio.sleep(60)

    bench.app.task(work)
    slot = bench.start("work")
    await asyncio.sleep(0)  # the first step of the run: older loops do not take it at once
    bench.executor.cancel_all()
    bench.executor.abort([slot])
    outcome = await bench.next()
    assert outcome.kind != ABORTED, "the mark of the job ends it when the worker has returned it"


async def test_a_run_that_has_ended_is_not_aborted() -> None:
    bench = Bench()
    go = asyncio.Event()

    async def work() -> int:
        await go.wait()
        return 1

    bench.app.task(work)
    slot = bench.start("work")
    go.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bench.executor.abort([slot])
    assert bench.value(await bench.next()) == 1
    assert bench.outcomes.empty()

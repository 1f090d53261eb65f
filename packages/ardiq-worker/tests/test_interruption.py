"""Runs that are cut short, by their timeout or by a worker that stops."""

import asyncio
import threading

import pytest

from ardiq import Reject, Retry
from ardiq_core import FAILURE, HAND_BACK, RETRY, SUCCESS
from tests.bench import Bench


@pytest.mark.parametrize("suspends", [False, True])
async def test_a_timeout_fails_the_attempt(bench: Bench, suspends: bool) -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    failed = await bench.run(hang, timeout=0.01, max_retries=0)
    assert (failed.kind, failed.value) == (FAILURE, "timed out after 0.01s")
    assert failed.error_type == "TimeoutError"
    assert failed.traceback is not None
    assert "in hang" in failed.traceback, "shows where it hung"
    assert (await bench.run(hang, timeout=0.01, name="again")).kind == RETRY


async def test_a_task_within_its_timeout_is_left_alone(bench: Bench) -> None:
    async def quick() -> str:
        await asyncio.sleep(0)
        return "done"

    assert bench.value(await bench.run(quick, timeout=30)) == "done"


@pytest.mark.parametrize("timeout", [None, 30.0])
async def test_the_tasks_own_timeout_error_is_reported_as_itself(bench: Bench, timeout: float | None) -> None:
    async def own() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(60)

    failed = await bench.run(own, timeout=timeout, max_retries=0)
    assert (failed.kind, failed.value) == (FAILURE, "TimeoutError()")


@pytest.mark.parametrize("error", [ValueError("cleanup failed"), Retry(delay_ms=0)])
async def test_an_error_out_of_the_cleanup_is_still_the_timeout(bench: Bench, error: Exception) -> None:
    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise error

    failed = await bench.run(hang, timeout=0.01, max_retries=0)
    assert (failed.kind, failed.value) == (FAILURE, "timed out after 0.01s")


async def test_a_value_returned_after_the_timeout_does_not_count(bench: Bench) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "late"
        return "never"

    failed = await bench.run(stubborn, timeout=0.01, max_retries=0)
    assert (failed.kind, failed.value) == (FAILURE, "timed out after 0.01s")


async def test_a_task_that_swallows_its_cancellation_frees_its_slot(
    hasty: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    async def deaf() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    failed = await hasty.run(deaf, timeout=0.01, max_retries=0)
    assert (failed.kind, failed.value) == (FAILURE, "timed out after 0.01s")
    assert hasty.executor.abandoned == 1
    assert any("is abandoned" in record.message for record in caplog.records)
    release.set()
    async with asyncio.timeout(10):
        while hasty.executor.abandoned:
            await asyncio.to_thread(lambda: None)
    assert hasty.outcomes.empty(), "its late return is ignored"


async def test_close_ends_a_coroutine_that_swallows_its_cancellation(hasty: Bench) -> None:
    async def deaf() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    await hasty.run(deaf, timeout=0.01, max_retries=0)
    before = len(asyncio.all_tasks())
    await hasty.executor.close()
    assert len(asyncio.all_tasks()) == before - 1
    assert hasty.executor.abandoned == 0


async def test_the_timeout_of_a_function_frees_the_slot_and_ignores_its_return(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    def stuck() -> str:
        release.wait(10)
        return "late"

    failed = await bench.run(stuck, timeout=0.01, max_retries=0)
    assert (failed.kind, failed.value) == (FAILURE, "timed out after 0.01s")
    assert bench.executor.abandoned == 1
    assert any("still running" in record.message for record in caplog.records)
    release.set()
    async with asyncio.timeout(10):
        while bench.executor.abandoned:
            await asyncio.to_thread(lambda: None)
    assert bench.outcomes.empty()


async def test_waiting_for_a_thread_does_not_count_towards_the_timeout(bench: Bench) -> None:
    release = threading.Event()
    bench.app.task(name="busy")(lambda: release.wait(10))
    bench.app.task(name="timed", timeout=0.05)(lambda: "in time")
    for _ in range(4):
        bench.start("busy")
    bench.start("timed")
    await asyncio.sleep(0.1)  # twice the timeout, with all threads busy
    release.set()
    values = [bench.value(await bench.next()) for _ in range(5)]
    assert sorted(map(str, values)) == ["True"] * 4 + ["in time"]


async def test_a_coroutine_that_runs_at_the_end_of_the_grace_period_is_returned(bench: Bench) -> None:
    cleaned: list[str] = []

    async def hang(how: str) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cleaned.append(how)
            if how == "result":
                return "in the last moment"
            if how == "error":
                raise ConnectionError("consequence of the cancellation") from None
            if how == "reject":
                raise Reject("no use") from None
            raise
        return "never"

    bench.app.task(hang)
    slots = {bench.start("hang", how): how for how in ("plain", "result", "error", "reject")}
    await asyncio.sleep(0)
    bench.executor.cancel_all()
    kinds = {}
    for _ in slots:
        outcome = await bench.next()
        kinds[slots[outcome.slot]] = outcome.kind
    assert kinds == {"plain": HAND_BACK, "result": SUCCESS, "error": HAND_BACK, "reject": FAILURE}
    assert sorted(cleaned) == ["error", "plain", "reject", "result"]


async def test_a_function_that_runs_at_the_end_of_the_grace_period_is_returned(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    begun, release = threading.Event(), threading.Event()

    def stuck() -> None:
        begun.set()
        release.wait(10)

    bench.app.task(stuck)
    slot = bench.start("stuck")
    assert await asyncio.to_thread(begun.wait, 10)
    bench.executor.cancel_all()
    assert await bench.next() == (slot, HAND_BACK, None, None, None, None)
    assert any("still running" in record.message for record in caplog.records)
    release.set()


async def test_a_task_that_ignores_cancellation_is_returned_in_the_end(hasty: Bench) -> None:
    async def deaf() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    hasty.app.task(deaf)
    slot = hasty.start("deaf")
    await asyncio.sleep(0)
    hasty.executor.cancel_all()
    assert await hasty.next() == (slot, HAND_BACK, None, None, None, None)
    assert hasty.executor.running == 0


class Stubborn(asyncio.Future[None]):
    """A future that cannot be cancelled."""

    def cancel(self, msg: object = None) -> bool:
        raise RuntimeError("no")


async def test_a_task_whose_cancellation_raises_keeps_no_other_from_being_cancelled(hasty: Bench) -> None:
    future = Stubborn()

    async def stubborn() -> None:
        await future

    async def sleeps() -> None:
        await asyncio.sleep(60)

    hasty.app.task(name="stubborn")(stubborn)
    hasty.app.task(name="sleeps")(sleeps)
    slots = {hasty.start("stubborn"), hasty.start("sleeps"), hasty.start("sleeps")}
    await asyncio.sleep(0)
    hasty.executor.cancel_all()
    assert {(await hasty.next())[:2] for _ in slots} == {(slot, HAND_BACK) for slot in slots}
    future.set_result(None)

"""One job, from assignment to outcome, whatever its task does."""

import asyncio
import logging
import threading
import weakref
from contextvars import ContextVar

import pytest

from ardiq import Reject, Retry, TaskContext, current_task
from ardiq_core import DEAD, FAILURE, HAND_BACK, RETRY, UNKNOWN_TASK
from ardiq_worker.run import Run
from tests.bench import Bench

seen: ContextVar[str] = ContextVar("seen", default="nothing")


async def test_the_value_of_a_coroutine_function(bench: Bench) -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    outcome = await bench.run(add, 2, 3, result_ttl_ms=77)
    assert bench.value(outcome) == 5
    assert (outcome.ttl_or_delay_ms, outcome.error_type, outcome.traceback) == (77, None, None)


async def test_the_value_of_a_function_runs_in_another_thread(bench: Bench) -> None:
    outcome = await bench.run(lambda: threading.current_thread() is threading.main_thread())
    assert bench.value(outcome) is False


@pytest.mark.parametrize("sync", [False, True])
async def test_the_context_tells_about_the_run(bench: Bench, sync: bool) -> None:
    found: list[TaskContext | None] = []

    async def look() -> None:
        found.append(current_task())
        await asyncio.sleep(0)
        found.append(await asyncio.create_task(child()))

    async def child() -> TaskContext | None:
        return current_task()

    def look_in_thread() -> None:
        found.append(current_task())

    bench.app.task(name="look")(look_in_thread if sync else look)
    bench.start("look", tries=3, headers={"trace": "abc"})
    await bench.next()
    for context in found:
        assert context is not None
        assert (context.task_id, context.name, context.tries) == ("id-1", "look", 3)
        assert (context.queue, context.enqueue_time, context.headers) == ("default", 1234, {"trace": "abc"})
    assert current_task() is None


@pytest.mark.parametrize("suspends", [False, True])
async def test_a_context_that_outlives_its_run_keeps_nothing_of_it(bench: Bench, suspends: bool) -> None:
    kept: list[TaskContext | None] = []
    large: list[weakref.ref[set[int]]] = []

    async def keep(numbers: set[int]) -> None:
        kept.append(current_task())
        large.append(weakref.ref(numbers))
        if suspends:
            await asyncio.sleep(0)

    bench.value(await bench.run(keep, {1, 2, 3}))
    await asyncio.sleep(0)  # the turn in which the asyncio task of the run is dropped
    assert [reference() for reference in large] == [None]
    (context,) = kept
    assert isinstance(context, Run)
    assert context.asyncio_task is None


async def test_headers_are_the_runs_own(bench: Bench) -> None:
    sizes: list[int] = []

    async def mark() -> None:
        context = current_task()
        assert context is not None
        sizes.append(len(context.headers))
        context.headers["seen"] = "yes"

    bench.app.task(mark)
    for _ in range(3):
        bench.start("mark")
        bench.value(await bench.next())
    assert sizes == [0, 0, 0]


@pytest.mark.parametrize("sync", [False, True])
async def test_each_run_has_a_context_of_its_own(bench: Bench, sync: bool) -> None:
    async def remember() -> str:
        found = seen.get()
        seen.set("leaked")
        return found

    def remember_in_thread() -> str:
        found = seen.get()
        seen.set("leaked")
        return found

    seen.set("the worker's")
    bench.app.task(name="remember")(remember_in_thread if sync else remember)
    for _ in range(3):
        bench.start("remember")
        assert bench.value(await bench.next()) == "the worker's"
    assert seen.get() == "the worker's"


async def test_a_run_is_an_asyncio_task_from_its_first_step(bench: Bench) -> None:
    async def check() -> bool:
        before = asyncio.current_task()
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        return before is asyncio.current_task() is not None

    assert bench.value(await bench.run(check)) is True


async def test_outcomes_of_one_turn_are_flushed_together(bench: Bench) -> None:
    async def nothing() -> None: ...

    bench.app.task(nothing)
    for _ in range(50):
        bench.start("nothing")
    for _ in range(50):
        bench.value(await bench.next())
    assert bench.flushes <= 2


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, RecursionError])
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("suspends", [False, True])
async def test_whatever_a_task_raises_is_a_failed_attempt(
    bench: Bench, kind: type[BaseException], sync: bool, suspends: bool
) -> None:
    async def fail() -> None:
        if suspends:
            await asyncio.sleep(0)
        raise kind("text")

    def fail_in_thread() -> None:
        raise kind("text")

    fn = fail_in_thread if sync else fail
    again = await bench.run(fn, name="again")
    assert (again.kind, again.value, again.ttl_or_delay_ms) == (RETRY, None, 1000)
    failed = await bench.run(fn, name="failed", max_retries=0)
    assert (failed.kind, failed.value) == (FAILURE, f"{kind.__name__}('text')")
    assert failed.error_type == kind.__name__
    assert failed.traceback is not None
    assert "in fail" in failed.traceback
    assert "ardiq_worker" not in failed.traceback, "the traceback starts with the task's own code"


async def test_endless_recursion_is_a_failed_attempt(bench: Bench) -> None:
    async def deeper() -> None:
        await deeper()

    failed = await bench.run(deeper, max_retries=0)
    assert failed.kind == FAILURE
    assert failed.error_type == "RecursionError"


async def test_a_stop_iteration_is_a_failed_attempt_in_both_kinds(bench: Bench) -> None:
    async def stop() -> None:
        raise StopIteration

    def stop_in_thread() -> None:
        raise StopIteration

    for fn in stop, stop_in_thread:
        failed = await bench.run(fn, name=fn.__name__, max_retries=0)
        assert failed.kind == FAILURE
        assert "StopIteration" in str(failed.value)


@pytest.mark.parametrize("itself", [False, True])
async def test_a_stray_cancellation_is_a_failed_attempt(bench: Bench, itself: bool) -> None:
    async def cancelled() -> None:
        if itself:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(10)
        raise asyncio.CancelledError("stray")

    failed = await bench.run(cancelled, max_retries=0)
    assert failed.kind == FAILURE
    assert failed.error_type == "asyncio.exceptions.CancelledError"
    assert (await bench.run(cancelled, name="again")).kind == RETRY


async def test_tries_count_against_max_retries(bench: Bench) -> None:
    async def fail() -> None:
        raise ValueError

    again = await bench.run(fail, name="second", tries=2, max_retries=2)
    assert (again.kind, again.value, again.ttl_or_delay_ms) == (RETRY, None, 4000)
    assert (await bench.run(fail, name="third", tries=3, max_retries=2)).kind == FAILURE


@pytest.mark.parametrize("sync", [False, True])
async def test_retry_and_reject_decide(bench: Bench, sync: bool) -> None:
    async def decide(retry: bool) -> None:
        raise Retry("later", delay_ms=0) if retry else Reject("never")

    def decide_in_thread(retry: bool) -> None:
        raise Retry("later", delay_ms=0) if retry else Reject("never")

    fn = decide_in_thread if sync else decide
    again = await bench.run(fn, True, name="retry")
    assert (again.kind, again.value, again.ttl_or_delay_ms) == (RETRY, None, 0)
    spent = await bench.run(fn, True, name="spent", max_retries=0)
    assert (spent.kind, spent.value) == (FAILURE, "Retry('later')")
    rejected = await bench.run(fn, False, name="reject")
    assert (rejected.kind, rejected.value) == (FAILURE, "Reject('never')")


async def test_wrong_arguments_are_a_failed_attempt(bench: Bench) -> None:
    async def none_wanted() -> None: ...

    failed = await bench.run(none_wanted, 1, max_retries=0)
    assert failed.kind == FAILURE
    assert failed.error_type == "TypeError"


async def test_a_value_that_cannot_be_serialized_is_final(bench: Bench) -> None:
    async def lock() -> object:
        return threading.Lock()

    failed = await bench.run(lock, max_retries=9)
    assert failed.kind == FAILURE
    assert "the return value cannot be serialized" in str(failed.value)
    assert "lock" in str(failed.value)


async def test_arguments_that_cannot_be_decoded_are_dead_lettered(bench: Bench) -> None:
    async def nothing() -> None: ...

    bench.app.task(nothing)
    for body in (b"", b"\xc1", b"\xc0", b"garbage"):
        bench.start("nothing", body=body)
        dead = await bench.next()
        assert dead.kind == DEAD
        assert "cannot be decoded" in str(dead.value)


async def test_an_unknown_name_is_left_to_the_engine(bench: Bench) -> None:
    slot = bench.start("unknown")
    assert await bench.next() == (slot, UNKNOWN_TASK, None, None, None, None)


async def test_the_log_names_failures_without_arguments(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(card: str) -> None:
        raise ValueError(card)

    caplog.set_level(logging.DEBUG, "ardiq.worker")
    await bench.run(fail, "4111-secret", name="charge")
    await bench.run(fail, "4111-secret", name="rejected", max_retries=0)
    first, second = caplog.records
    assert first.levelno == logging.WARNING
    assert "charge[id-1] failed on attempt 1 of 4 and will be retried in 1000 ms: ValueError" in first.getMessage()
    assert second.levelno == logging.ERROR
    assert "test_execute.py" in second.getMessage()
    assert "secret" not in caplog.text
    # The bench has no engine, which would know how long the attempt took.
    facts = ("task", "job_id", "attempt", "outcome", "duration_ms")
    assert [vars(first).get(name) for name in facts] == ["charge", "id-1", 1, "retry", None]
    assert [vars(second).get(name) for name in facts] == ["rejected", "id-2", 1, "failed", None]


async def test_a_silent_task_logs_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(really: bool) -> None:
        if really:
            raise ValueError

    caplog.set_level(logging.DEBUG, "ardiq.worker")
    bench.executor.verbose = True
    await bench.run(fail, True, name="one", silent=True, max_retries=0)
    await bench.run(fail, False, name="two", silent=True)
    assert not caplog.records
    await bench.run(fail, False, name="three")
    assert "three[id-3] finished on attempt 1" in caplog.text


async def test_a_refused_job_is_returned_without_running(bench: Bench) -> None:
    bench.executor.refuse(9)
    assert await bench.next() == (9, HAND_BACK, None, None, None, None)

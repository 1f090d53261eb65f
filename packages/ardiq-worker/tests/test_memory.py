"""A run that has ended keeps no memory, neither through its exception nor through the frames of its
traceback.
"""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ardiq import Reject, Retry
from tests.bench import Bench


class Large:
    """Stands for an object that takes a lot of memory."""


held: list[weakref.ref[Large]] = []


def large() -> Large:
    made = Large()
    held.append(weakref.ref(made))
    return made


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Disable garbage collection, so that objects in a cycle stay and are found."""
    held.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def raises(error: BaseException | type[BaseException]) -> Callable[[], None]:
    def task() -> None:
        kept = large()
        assert kept is not None
        raise error

    return task


def refers_to_itself() -> None:
    """The usual cause of a cycle: a frame with a variable for the exception that passes through
    it.
    """
    kept = large()
    failure = ValueError(kept)
    raise failure


def caught_and_raised_again() -> None:
    kept = [large()]
    failure: Exception | None = None
    try:
        inner(kept)
    except ValueError as error:
        failure = error
    assert failure is not None
    raise RuntimeError(len(kept)) from failure


def inner(kept: list[Large]) -> None:
    also_kept = large()
    failure = ValueError(len(kept), also_kept)
    raise failure


def with_a_context() -> None:
    kept = large()
    try:
        inner([kept])
    except ValueError:
        failure = KeyError("other")
        raise failure  # noqa: B904 - the context is what is tried


def a_group() -> None:
    kept = large()
    failures: list[Exception] = []
    for _ in range(3):
        try:
            inner([kept])
        except ValueError as error:
            failures.append(error)
    failure = ExceptionGroup("several", failures)
    raise failure


TASKS: dict[str, Callable[[], None]] = {
    "ValueError": raises(ValueError),
    "KeyboardInterrupt": raises(KeyboardInterrupt),
    "StopIteration": raises(StopIteration),
    "CancelledError": raises(asyncio.CancelledError),
    "Retry": raises(Retry),
    "Reject": raises(Reject),
    "the same exception each time": raises(LookupError("one for all")),
    "refers to itself": refers_to_itself,
    "caught and raised again": caught_and_raised_again,
    "with a context": with_a_context,
    "a group": a_group,
}


def as_coroutine(fn: Callable[[], None], suspends: bool) -> Callable[[], Any]:
    async def task() -> None:
        kept = large()
        assert kept is not None
        if suspends:
            await asyncio.sleep(0)
        fn()

    return task


async def of_its_own() -> None:
    kept = large()
    await asyncio.sleep(0)
    failure = ValueError(kept)
    raise failure


async def in_a_group_of_tasks() -> None:
    kept = large()

    async def child() -> None:
        also_kept = large()
        await asyncio.sleep(0)
        raise ValueError(kept, also_kept)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(child())


async def failed_and_gathered() -> None:
    kept = large()

    async def child() -> None:
        also_kept = large()
        await asyncio.sleep(0)
        raise ValueError(kept, also_kept)

    await asyncio.gather(child(), child())


async def in_another_thread() -> None:
    kept = large()
    await asyncio.to_thread(refers_to_itself)
    assert kept is not None


COROUTINES: dict[str, Callable[[], Any]] = {
    **{f"{name}, eager": as_coroutine(fn, False) for name, fn in TASKS.items()},
    **{f"{name}, suspended": as_coroutine(fn, True) for name, fn in TASKS.items()},
    "of its own": of_its_own,
    "in a group of tasks": in_a_group_of_tasks,
    "failed and gathered": failed_and_gathered,
    "in another thread": in_another_thread,
}


async def nothing_held() -> None:
    """Wait until the last frames that are ending are gone."""
    async with asyncio.timeout(5):
        while any(one() is not None for one in held):  # noqa: ASYNC110 - there is no event for the end of a frame
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("name", [*TASKS, *COROUTINES])
async def test_a_failed_run_holds_nothing(bench: Bench, name: str, retries: int) -> None:
    bench.app.task(name="fails", max_retries=retries)(TASKS.get(name) or COROUTINES[name])
    for _ in range(3):
        bench.start("fails")
        await bench.next()
    assert held
    await nothing_held()


@pytest.mark.parametrize("sync", [False, True])
async def test_a_run_that_timed_out_holds_nothing_once_it_has_ended(hasty: Bench, sync: bool) -> None:
    release = threading.Event()

    async def hang() -> None:
        kept = large()
        await asyncio.sleep(60)
        assert kept is not None

    def hang_in_thread() -> None:
        kept = large()
        release.wait(10)
        refers_to_itself()
        assert kept is not None

    await hasty.run(hang_in_thread if sync else hang, name="hang", timeout=0.01)
    release.set()
    assert held
    await nothing_held()


@pytest.mark.parametrize("again", [False, True])
async def test_a_coroutine_that_caught_the_exception_goes_on(bench: Bench, again: bool) -> None:
    """Its frame is in the traceback too, and to clear it would end it."""
    shared: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    release = asyncio.Event()

    async def goes_on() -> str:
        kept = "kept"
        try:
            if again:
                await asyncio.sleep(0)
            raises(ValueError)()
        except ValueError as error:
            shared.set_exception(error)
        await release.wait()
        return kept

    other = asyncio.create_task(goes_on())

    async def fail() -> None:
        await shared

    bench.app.task(name="fails", max_retries=0)(fail)
    for _ in range(2):
        bench.start("fails")
        await bench.next()
    assert not other.done()
    release.set()
    assert await other == "kept"


@pytest.mark.parametrize("sync", [False, True])
async def test_a_value_is_let_go_of(bench: Bench, sync: bool) -> None:
    def value() -> None:
        large()

    await bench.run(value if sync else as_coroutine(value, True), name="value")
    assert held
    await nothing_held()


PROGRAM = """
import asyncio, resource, sys
from tests.bench import Bench

def fail():
    kept = bytearray(b"x" * 50_000_000)
    failure = ValueError("no good")
    raise failure

async def fail_on_the_loop():
    fail()

async def main():
    bench = Bench()
    bench.app.task(name="fail", max_retries=int(sys.argv[2]))(fail if sys.argv[1] == "sync" else fail_on_the_loop)
    for _ in range(20):
        bench.start("fail")
        await bench.next()
    await bench.executor.close()

asyncio.run(main())
if sys.platform == "linux":
    # Not ru_maxrss, which a process inherits from the one that started it.
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize(("kind", "retries"), [("sync", 3), ("async", 0)])
def test_twenty_failing_jobs_of_fifty_megabytes_take_the_memory_of_a_few(kind: str, retries: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(retries)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200_000, "KB at the peak"

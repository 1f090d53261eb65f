"""The pool for `def` tasks: capacity, contexts, abandoned threads, and closing without
leftovers.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from functools import partial

import pytest

from ardiq_worker.threads import ThreadPool

SIZE = 2
seen: ContextVar[str] = ContextVar("seen", default="nothing")


@pytest.fixture
async def pool() -> AsyncIterator[ThreadPool]:
    made = ThreadPool(asyncio.get_running_loop(), SIZE)
    yield made
    made.close()


def task_threads() -> int:
    return sum(thread.name.startswith("ardiq-task") for thread in threading.enumerate())


async def eventually(condition: Callable[[], object]) -> None:
    """Let the threads of the pool run until the condition holds. There is no event for it."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.to_thread(lambda: None)


async def test_it_returns_what_the_function_returns(pool: ThreadPool) -> None:
    def combine(*args: int, **kwargs: int) -> tuple[tuple[int, ...], dict[str, int], bool]:
        return args, kwargs, threading.current_thread() is threading.main_thread()

    assert await pool.call(combine, (1, 2), {"c": 3}) == ((1, 2), {"c": 3}, False)


@pytest.mark.parametrize(
    "error", [ValueError("v"), KeyboardInterrupt(), SystemExit(1), GeneratorExit(), asyncio.CancelledError("mine")]
)
async def test_it_raises_what_the_function_raises(pool: ThreadPool, error: BaseException) -> None:
    def fail() -> None:
        raise error

    raised: BaseException | None = None
    try:
        await pool.call(fail, (), {})
    except BaseException as caught:  # noqa: BLE001 - any, and it is what is looked at
        raised = caught
    assert raised is error
    assert await pool.call(str, (), {}) == "", "the thread lives on"
    assert pool.abandoned == 0


async def test_a_stop_iteration_arrives_as_from_a_coroutine(pool: ThreadPool) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.call(next, (iter(()),), {})


async def test_each_call_runs_in_a_copy_of_the_callers_context(pool: ThreadPool) -> None:
    def look_and_set() -> str:
        found = seen.get()
        seen.set("leaked")
        return found

    seen.set("caller's")
    assert [await pool.call(look_and_set, (), {}) for _ in range(3)] == ["caller's"] * 3
    assert seen.get() == "caller's"


async def test_no_more_than_its_size_run_at_once_and_all_run(pool: ThreadPool) -> None:
    lock, counts, release = threading.Lock(), [0, 0], threading.Event()

    def work() -> None:
        with lock:
            counts[0] += 1
            counts[1] = max(counts)
        release.wait(10)
        with lock:
            counts[0] -= 1

    calls = [asyncio.create_task(pool.call(work, (), {})) for _ in range(10)]
    await eventually(lambda: counts[0] == SIZE)
    release.set()
    await asyncio.gather(*calls)
    assert counts == [0, SIZE]
    assert task_threads() == SIZE


async def test_threads_are_started_when_needed_and_used_again(pool: ThreadPool) -> None:
    assert task_threads() == 0
    for _ in range(5):
        await pool.call(str, (), {})
    assert task_threads() == 1


async def test_a_call_begins_when_a_thread_is_free_for_it(pool: ThreadPool) -> None:
    begun: list[int] = []
    releases = [threading.Event() for _ in range(3)]

    def begins(number: int) -> bool:
        begun.append(number)
        return True

    calls = [
        asyncio.create_task(pool.call(release.wait, (10,), {}, partial(begins, n)))
        for n, release in enumerate(releases)
    ]
    await asyncio.sleep(0)
    assert begun == [0, 1]
    releases[1].set()
    await calls[1]
    await eventually(lambda: begun == [0, 1, 2])
    for release in releases:
        release.set()
    await asyncio.gather(*calls)


async def test_an_abandoned_thread_is_counted_and_replaced(pool: ThreadPool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ardiq.worker")
    release = threading.Event()

    def stuck(begun: threading.Event) -> str:
        begun.set()
        release.wait(10)
        return "late"

    for expected in range(1, 2 * SIZE + 1):  # more than the pool's size: capacity must not shrink
        begun = threading.Event()
        call = asyncio.create_task(pool.call(stuck, (begun,), {}))
        await eventually(begun.is_set)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert pool.abandoned == expected
    assert sum("still running" in record.message for record in caplog.records) == 2 * SIZE
    both = threading.Barrier(SIZE)
    await asyncio.gather(*(pool.call(both.wait, (10,), {}) for _ in range(SIZE)))

    release.set()
    await eventually(lambda: pool.abandoned == 0)
    await eventually(lambda: task_threads() == SIZE)


async def test_a_call_given_up_in_the_line_never_runs(pool: ThreadPool) -> None:
    release, ran = threading.Event(), threading.Event()
    busy = [asyncio.create_task(pool.call(release.wait, (10,), {})) for _ in range(SIZE)]
    waiting = asyncio.create_task(pool.call(ran.set, (), {}))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await asyncio.gather(*busy)
    assert await pool.call(ran.is_set, (), {}) is False
    assert pool.abandoned == 0


async def test_giving_up_while_the_return_is_on_its_way_loses_no_thread(pool: ThreadPool) -> None:
    for _ in range(200):
        returned = threading.Event()
        call = asyncio.create_task(pool.call(returned.set, (), {}))
        await asyncio.sleep(0)
        returned.wait(10)  # blocks the loop: it cannot have seen the return yet
        call.cancel()
        await asyncio.wait([call])
    await eventually(lambda: pool.abandoned == 0)
    both = threading.Barrier(SIZE)
    await asyncio.gather(*(pool.call(both.wait, (10,), {}) for _ in range(SIZE)))
    await eventually(lambda: task_threads() <= SIZE)


async def test_close_ends_idle_threads_and_leaves_abandoned_ones_to_end_by_themselves() -> None:
    pool = ThreadPool(asyncio.get_running_loop(), SIZE)
    release, begun = threading.Event(), threading.Event()

    def stuck() -> None:
        begun.set()
        release.wait(10)

    call = asyncio.create_task(pool.call(stuck, (), {}))
    await pool.call(str, (), {})
    await eventually(begun.is_set)
    call.cancel()
    await asyncio.wait([call])
    pool.close()
    assert task_threads() == 1
    release.set()
    await eventually(lambda: task_threads() == 0)


async def test_all_threads_are_daemons(pool: ThreadPool) -> None:
    assert await pool.call(lambda: threading.current_thread().daemon, (), {})

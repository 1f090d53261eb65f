"""Every awaitable that a task's function returns is awaited, wherever the function ran."""

import asyncio
import functools
import threading
import types
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from typing import Any

import pytest

from ardiq_core import FAILURE, HAND_BACK, RETRY
from tests.bench import Bench

caller: ContextVar[str] = ContextVar("caller", default="no caller")


async def double(number: int) -> int:
    await asyncio.sleep(0)
    assert threading.current_thread() is threading.main_thread()
    return number * 2


def plain(fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return fn(*args, **kwargs)

    return wrapper


def forgetful(fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def wrapper(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return fn(*args, **kwargs)

    return wrapper


class Object:
    async def __call__(self, number: int) -> int:
        return await double(number)

    async def method(self, number: int) -> int:
        return await double(number)

    @staticmethod
    async def static(number: int) -> int:
        return await double(number)


class Handed:
    def __call__(self, number: int) -> Awaitable[int]:
        return double(number)


class Later:
    def __init__(self, number: int) -> None:
        self.number = number

    def __await__(self) -> Generator[Any, Any, int]:
        return double(self.number).__await__()


@types.coroutine
def generator_based(number: int) -> Generator[Any, Any, int]:
    return (yield from double(number).__await__())


KINDS: dict[str, Callable[[int], Any]] = {
    "decorated": plain(double),
    "decorated twice": plain(plain(double)),
    "decorated by a coroutine function that does not await": forgetful(double),
    "both": forgetful(plain(forgetful(double))),
    "lambda": lambda number: double(number),
    "partial": functools.partial(plain(double)),
    "object": Object(),
    "object that hands a coroutine on": Handed(),
    "partial of an object": functools.partial(Object()),
    "method": Object().method,
    "static method": Object.__dict__["static"],
    "decorated static method": staticmethod(plain(double)),
    "custom awaitable": Later,
    "generator-based coroutine": generator_based,
}


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_awaited(bench: Bench, kind: str, timeout: float | None) -> None:
    outcome = await bench.run(KINDS[kind], 21, timeout=timeout)
    assert bench.value(outcome) == 42


async def test_a_future_of_the_loop_is_awaited(bench: Bench) -> None:
    loop = asyncio.get_running_loop()

    def later(number: int) -> asyncio.Future[int]:
        future: asyncio.Future[int] = loop.create_future()
        loop.call_soon_threadsafe(future.set_result, number * 2)
        return future

    assert bench.value(await bench.run(later, 21)) == 42


async def test_a_decorator_s_context_reaches_the_body(bench: Bench) -> None:
    async def body() -> str:
        return caller.get()

    def decorated() -> Awaitable[str]:
        caller.set("the decorator")
        return body()

    assert bench.value(await bench.run(decorated)) == "the decorator"
    assert caller.get() == "no caller"


async def test_an_error_of_the_body_is_the_task_s(bench: Bench) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    outcome = await bench.run(plain(fails), max_retries=0)
    assert (outcome.kind, outcome.value) == (FAILURE, "LookupError('gone')")
    assert outcome.traceback is not None
    assert "test_awaitables.py" in outcome.traceback
    assert "execute.py" not in outcome.traceback


async def test_a_timeout_counts_for_the_body(bench: Bench) -> None:
    cancelled: list[bool] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    outcome = await bench.run(plain(endless), timeout=0.05, max_retries=0)
    assert (outcome.kind, outcome.value) == (FAILURE, "timed out after 0.05s")
    assert cancelled == [True]


async def test_the_end_of_the_grace_period_cancels_the_body(bench: Bench) -> None:
    started = asyncio.Event()

    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    bench.app.task(name="endless")(plain(endless))
    bench.start("endless")
    await started.wait()
    bench.executor.cancel_all()
    assert (await bench.next()).kind == HAND_BACK


async def test_a_coroutine_that_comes_too_late_is_closed(bench: Bench) -> None:
    gate = threading.Event()
    made: list[Any] = []

    def late() -> Any:
        gate.wait(10)
        made.append(double(1))
        return made[0]

    outcome = await bench.run(late, timeout=0.05)
    assert outcome.kind == RETRY
    gate.set()
    async with asyncio.timeout(10):
        while not made or made[0].cr_frame is not None:  # noqa: ASYNC110 - a thread's end sets no event
            await asyncio.sleep(0.005)

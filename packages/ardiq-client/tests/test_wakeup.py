"""A wake-up wakes a loop, with or without the loop's help."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from ardiq._core.wakeup import WakeUp

seen: ContextVar[str] = ContextVar("seen", default="nothing")


class Readerless(asyncio.SelectorEventLoop):
    """Watches no file descriptors for others."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def another_call() -> None:
    """Return when a later wake-up has called its function: an earlier one has done so by then."""
    ends, called = os.pipe(), asyncio.Event()
    later = WakeUp(asyncio.get_running_loop(), ends[0], called.set)
    os.write(ends[1], b"x")
    async with asyncio.timeout(10):
        await called.wait()
    later.close()
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("kind", [asyncio.SelectorEventLoop, Readerless])
def test_it_calls_back_each_time_that_something_is_there(
    kind: type[asyncio.AbstractEventLoop], pipe: tuple[int, int]
) -> None:
    async def listen() -> None:
        called: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue()
        seen.set("the listener's")
        wakeup = WakeUp(
            asyncio.get_running_loop(), pipe[0], lambda: called.put_nowait((os.read(pipe[0], 1), seen.get()))
        )
        async with asyncio.timeout(10):
            for letter in (b"a", b"b", b"c"):
                os.write(pipe[1], letter)
                assert await called.get() == (letter, "the listener's")
        assert called.empty()
        wakeup.close()
        wakeup.close()
        os.write(pipe[1], b"d")
        await another_call()
        assert called.empty()

    with asyncio.Runner(loop_factory=kind) as runner:
        runner.run(listen())
    assert not [thread for thread in threading.enumerate() if thread.name == "ardiq-wakeup"]


def test_a_wakeup_may_be_closed_after_its_loop(pipe: tuple[int, int]) -> None:
    async def make() -> WakeUp:
        return WakeUp(asyncio.get_running_loop(), pipe[0], lambda: None)

    with asyncio.Runner(loop_factory=Readerless) as runner:
        wakeup = runner.run(make())
    os.write(pipe[1], b"a")
    wakeup.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ardiq-wakeup"]

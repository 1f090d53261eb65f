"""Progress and events as a caller sees them, without a server."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

import ardiq
from ardiq import BrokerClosedError, JobEvent, Progress
from ardiq._core.event_stream import EventStream
from ardiq.errors import InvalidIdError


@pytest.mark.parametrize(
    ("done", "total", "fraction"), [(0, 4, 0.0), (1, 4, 0.25), (4, 4, 1.0), (5, 4, 1.0), (3, None, None), (0, 0, None)]
)
def test_a_fraction_is_known_with_the_total(done: int, total: int | None, fraction: float | None) -> None:
    assert Progress(done, total, None, 1).fraction == fraction


def test_the_fields_are_in_order() -> None:
    assert Progress._fields == ("done", "total", "message", "updated")
    assert JobEvent._fields == ("status", "tries", "progress", "result")


def test_the_types_are_loaded_when_they_are_named() -> None:
    script = (
        "import sys, ardiq\n"
        "print('ardiq.progress' in sys.modules, 'ardiq.events' in sys.modules)\n"
        "from ardiq import JobEvent, Progress\n"
        "print(JobEvent.__name__, Progress.__name__)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert run.stdout == "False False\nJobEvent Progress\n"
    with pytest.raises(AttributeError, match="module 'ardiq' has no attribute 'Progres'"):
        ardiq.Progres  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018


async def test_a_malformed_id_is_an_error_before_any_request() -> None:
    job = ardiq.Job[Any](ardiq.Ardiq("redis://127.0.0.1:1"), "with space")
    with pytest.raises(InvalidIdError):
        await job.progress()
    with pytest.raises(InvalidIdError):
        await anext(job.events())


def event(state: str, done: int | None, tries: int = 1, *, is_last: bool = False) -> Any:
    return (state, tries, None if done is None else (done, None, None, 1), None, is_last)


async def test_unread_progress_is_merged_and_states_are_not() -> None:
    stream = EventStream(lambda: None)
    events = [event("queued", None), event("running", None), event("running", 1), event("running", 2)]
    events += [event("running", 2, tries=2), event("complete", 2, is_last=True)]
    for one in events:
        assert not stream.done()
        stream.set_result(one)
    assert stream.done()
    assert [await stream.next() for _ in range(4)] == [events[0], events[3], events[4], events[5]]


async def test_a_caller_that_waits_gets_the_next_event_or_the_error() -> None:
    stream = EventStream(lambda: None)
    waiter = asyncio.create_task(stream.next())
    await asyncio.sleep(0)
    stream.set_result(event("queued", None))
    assert (await waiter)[0] == "queued"
    stream.set_exception(BrokerClosedError("closed"))
    with pytest.raises(BrokerClosedError):
        await stream.next()


def test_the_request_is_given_up_once_and_only_if_it_is_open() -> None:
    given_up: list[int] = []
    stream = EventStream(lambda: given_up.append(1))
    stream.close()
    stream.close()
    ended = EventStream(lambda: given_up.append(2))
    ended.set_exception(BrokerClosedError("closed"))
    ended.close()
    assert given_up == [1]

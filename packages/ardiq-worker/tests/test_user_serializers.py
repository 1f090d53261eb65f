"""An app's own serializer and deserializer, at the end and the start of a run: whatever they do,
the slot becomes free.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import pytest

from ardiq import Ardiq
from ardiq_core import DEAD, FAILURE, HAND_BACK, SUCCESS
from tests.bench import Bench

kinds = pytest.mark.parametrize(
    "kind",
    [ValueError, StopIteration, MemoryError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit],
)
PLAIN = {int, bytes, str, type(None)}


def blow(kind: type[BaseException]) -> Callable[..., Any]:
    """A function that raises `kind`, whatever it is called with."""

    def raises(*_args: object, **_kwargs: object) -> NoReturn:
        raise kind("from user code")

    return raises


async def nothing() -> None: ...


SERIALIZERS: dict[str, Callable[[type[BaseException]], Callable[[Any], Any]]] = {
    "raises": blow,
    "returns no bytes": lambda _: lambda _: 7,
    "returns bytes of its own": lambda kind: lambda _: type("OddBytes", (bytes,), {"__len__": blow(kind)})(b"odd"),
    "returns what only says it is bytes": lambda _: lambda _: type("Liar", (), {"__class__": bytes})(),
    "returns what raises when asked": lambda kind: lambda _: type("O", (), {"__class__": property(blow(kind))})(),
}


@pytest.fixture
async def custom() -> AsyncIterator[Callable[..., Bench]]:
    """A function that makes a bench whose app has its own serializer and deserializer."""
    benches: list[Bench] = []

    def make(serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]) -> Bench:
        app = Ardiq("redis://localhost:1", concurrency=4, serializer=serializer, deserializer=deserializer)
        benches.append(Bench(app=app))
        return benches[-1]

    yield make
    for bench in benches:
        await bench.executor.close()
        bench.threads.close()


@kinds
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_whatever_a_serializer_does_with_a_value(
    custom: Callable[..., Bench], serializer: str, kind: type[BaseException]
) -> None:
    bench = custom(SERIALIZERS[serializer](kind), lambda _: ((), {}))
    bench.app.task(name="returns")(nothing)
    bench.start("returns", body=b"")
    outcome = await bench.next()
    assert outcome.kind in (SUCCESS, FAILURE)
    assert {type(part) for part in outcome} <= PLAIN
    assert bench.executor.running == 0


DESERIALIZERS: dict[str, Callable[[type[BaseException]], Callable[[Any], Any]]] = {
    "raises": blow,
    "returns no call": lambda _: lambda _: 7,
    "returns what raises when asked": lambda kind: lambda _: type("O", (), {"__class__": property(blow(kind))})(),
    "returns a tuple of its own": lambda kind: lambda _: type("T", (tuple,), {"__iter__": blow(kind)})(((), {})),
    "returns arguments of its own": lambda kind: lambda _: (type("T", (list,), {"__iter__": blow(kind)})([1]), {}),
    "returns keywords of its own": lambda kind: lambda _: ((), type("D", (dict,), {"keys": blow(kind)})(a=1)),
    "returns keywords that are none": lambda _: lambda _: ((), {1: 2}),
}


@kinds
@pytest.mark.parametrize("deserializer", DESERIALIZERS)
async def test_whatever_a_deserializer_does_with_arguments(
    custom: Callable[..., Bench], deserializer: str, kind: type[BaseException]
) -> None:
    bench = custom(lambda _: b"", DESERIALIZERS[deserializer](kind))
    bench.app.task(name="begins", max_retries=0)(nothing)
    bench.start("begins", body=b"")
    outcome = await bench.next()
    assert outcome.kind in (DEAD, FAILURE, SUCCESS, HAND_BACK)
    assert {type(part) for part in outcome} <= PLAIN
    assert bench.executor.running == 0

"""A call that does not match the function fails at once.

A TypeError raised in the function is an ordinary failure.
"""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from ardiq_core import FAILURE, RETRY
from tests.bench import Bench


async def coroutine(a: int) -> None: ...


def function(a: int) -> None: ...


class Object:
    def __call__(self, a: int) -> None: ...

    async def method(self, a: int) -> None: ...

    @functools.cache  # noqa: B019 - one object only
    def cached(self, a: int) -> None: ...


def decorated(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def decorated_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return wrapper


KINDS: list[Callable[..., Any]] = [
    *(coroutine, function, Object(), Object().method, functools.partial(coroutine), functools.partial(function, a=1)),
    *(decorated(coroutine), decorated(function), decorated_async(coroutine), decorated(decorated_async(coroutine))),
    *(functools.cache(function), functools.lru_cache(coroutine), Object().cached, functools.cache(decorated(function))),
    *(functools.singledispatch(function), functools.singledispatch(coroutine), decorated(functools.cache(function))),
    *(len, functools.partial(pow, 1, 2), functools.cache(len), functools.partial(functools.cache(function))),
]


@pytest.mark.parametrize("fn", KINDS, ids=range(len(KINDS)))
async def test_a_call_that_does_not_fit_is_not_tried_again(bench: Bench, fn: Callable[..., Any]) -> None:
    outcome = await bench.run(fn, 1, 2, max_retries=5)
    assert outcome.kind == FAILURE
    assert isinstance(outcome.value, str)
    assert outcome.value.startswith("TypeError(")
    assert outcome.error_type == "TypeError"


@functools.singledispatch
def chosen(a: Any, b: int) -> None: ...


@chosen.register
def chosen_for_text(a: str) -> None: ...


ODD_CALLS: list[tuple[Callable[..., Any], list[Any]]] = [
    *((max, []), (int, [1, 2, 3]), (dict, [1, 2]), (functools.cache(function), [[]]), (Object().cached, [[]])),
    *((chosen, []), (chosen, [1]), (chosen, ["a", 2])),
]


@pytest.mark.parametrize(("fn", "args"), ODD_CALLS, ids=range(len(ODD_CALLS)))
async def test_a_call_that_only_the_call_itself_can_reject_is_not_tried_again(
    bench: Bench, fn: Callable[..., Any], args: list[Any]
) -> None:
    outcome = await bench.run(fn, *args, max_retries=5)
    assert outcome.kind == FAILURE


def raises(a: int) -> None:
    raise TypeError("raises() takes 1 positional argument but 2 were given")


def adds(a: int) -> None:
    a + ""  # type: ignore[operator]


def calls_itself_wrongly(a: int) -> None:
    calls_itself_wrongly()  # type: ignore[call-arg]


def calls_another_wrongly(a: int) -> None:
    function()  # type: ignore[call-arg]


async def calls_a_coroutine_wrongly(a: int) -> None:
    await coroutine()  # type: ignore[call-arg]


async def awaits_none(a: int) -> None:
    await None  # type: ignore[misc]


class Kind(TypeError): ...


def raises_another_kind(a: int) -> None:
    raise Kind("raises_another_kind() takes 1 positional argument")


BODIES: list[Callable[..., Any]] = [
    *(raises, adds, calls_itself_wrongly, calls_another_wrongly, calls_a_coroutine_wrongly, awaits_none),
    *(raises_another_kind, functools.partial(raises), decorated(calls_itself_wrongly)),
    *(decorated(calls_another_wrongly), decorated_async(calls_a_coroutine_wrongly), int),
    *(functools.cache(adds), functools.singledispatch(calls_itself_wrongly), functools.cache(calls_another_wrongly)),
]


@pytest.mark.parametrize("fn", BODIES, ids=range(len(BODIES)))
async def test_a_type_error_of_the_body_is_tried_again(bench: Bench, fn: Callable[..., Any]) -> None:
    outcome = await bench.run(fn, [] if fn is int else 1, max_retries=5)
    assert outcome.kind == RETRY

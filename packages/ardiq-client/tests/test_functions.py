"""A task looks like its function to code that inspects, pickles, copies or patches it."""

import asyncio
import copy
import functools
import importlib.util
import inspect
import pickle
import sys
import typing
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from ardiq import Ardiq, Task

NAME = "functions_of_an_application"


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("functions.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, NAME, module)
    spec.loader.exec_module(module)
    return module


def is_coroutine_function(fn: Any) -> bool:
    """Return what `inspect` reports, and what `asyncio` reports to libraries that still use it."""
    answers = [inspect.iscoroutinefunction(fn)]
    if sys.version_info < (3, 14):
        answers.append(asyncio.iscoroutinefunction(fn))
    assert len(set(answers)) == 1
    return answers[0]


def test_coroutine_functions_are_told_from_others(tasks: ModuleType) -> None:
    assert is_coroutine_function(tasks.double)
    assert is_coroutine_function(functools.partial(tasks.double, 1))
    assert is_coroutine_function(tasks.Group.inside)
    assert is_coroutine_function(tasks.Group.outside)
    assert not is_coroutine_function(tasks.join)
    assert not is_coroutine_function(tasks.shown)
    assert not is_coroutine_function(tasks.decorated), "as for the decorated function itself"
    assert not is_coroutine_function(tasks.double.options(delay_ms=1))


class Object:
    async def __call__(self, number: int) -> int:
        return number

    async def method(self, number: int) -> int:
        return number

    @staticmethod
    async def static(number: int) -> int:
        return number

    @classmethod
    async def of_class(cls, number: int) -> int:
        return number


class StaticCall:
    @staticmethod
    async def __call__(number: int) -> int:
        return number


class PartialCall:
    __call__ = functools.partial(Object.static)


async def plain(number: int) -> int:
    return number


ASYNC: list[Any] = [
    plain,
    functools.partial(plain, 1),
    functools.partial(functools.partial(plain), 1),
    Object(),
    functools.partial(Object(), 1),
    Object().method,
    Object.static,
    Object.of_class,
    Object.__dict__["static"],
    StaticCall(),
    PartialCall(),
]


@pytest.mark.parametrize("fn", ASYNC, ids=range(len(ASYNC)))
def test_every_kind_of_coroutine_function_is_one(fn: Any) -> None:
    task = Ardiq().task(name="task")(fn)
    assert task.is_async
    assert is_coroutine_function(task)


def test_a_function_that_is_marked_as_a_coroutine_function_is_one() -> None:
    def marked() -> Any:
        return plain(1)

    mark = getattr(inspect, "markcoroutinefunction", None)  # 3.11 does not have it
    task = Ardiq().task(mark(marked) if mark else marked)
    assert task.is_async is inspect.iscoroutinefunction(task) is bool(mark)


def test_the_metadata_is_the_function_s(tasks: ModuleType) -> None:
    for task, name in ((tasks.double, "double"), (tasks.join, "join"), (tasks.decorated, "decorated")):
        fn = task.fn
        assert (task.__name__, task.__qualname__, task.__module__) == (name, name, NAME)
        assert task.__doc__ == fn.__doc__
        assert task.__wrapped__ is fn
        assert inspect.unwrap(task) is inspect.unwrap(fn)
        assert inspect.getdoc(task) == fn.__doc__
        assert inspect.signature(task) == inspect.signature(fn)
        assert typing.get_type_hints(task) == typing.get_type_hints(fn)
    assert tasks.join.name == "text.join"
    assert tasks.Group.outside.__qualname__ == "Group.outside"
    assert Task.__doc__ is not None
    assert "workers can run" in Task.__doc__
    assert inspect.signature(Task).parameters["fn"].annotation


def test_what_has_no_metadata_of_its_own_is_named_after_the_task() -> None:
    task = Ardiq().task(name="half")(functools.partial(plain, 1))
    assert (task.__name__, task.__qualname__) == ("half", "half")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_task_is_pickled_by_reference(tasks: ModuleType, protocol: int) -> None:
    for task in (tasks.double, tasks.join, tasks.shown, tasks.decorated, tasks.Group.inside, tasks.Group.outside):
        if protocol < 2 and task.__qualname__ != task.__name__:
            continue  # those forms have no names with dots
        data = pickle.dumps(task, protocol)
        assert pickle.loads(data) is task
        assert len(data) < 100


def test_a_task_without_a_global_name_says_so_when_pickled() -> None:
    task = Ardiq().task(name="local")(lambda: None)
    with pytest.raises(pickle.PicklingError, match=r"local.*pickled by reference"):
        pickle.dumps(task)


def test_a_copy_of_a_task_is_the_task(tasks: ModuleType) -> None:
    assert copy.copy(tasks.double) is tasks.double
    assert copy.deepcopy({"task": tasks.join})["task"] is tasks.join


async def test_the_function_of_a_task_can_be_patched(tasks: ModuleType) -> None:
    with mock.patch.object(tasks.double, "fn") as double, mock.patch.object(tasks.join, "fn", autospec=True) as join:
        double.return_value = 7
        join.return_value = "joined"
        assert await tasks.double(1) == 7
        assert tasks.join(["a"]) == "joined"
        with pytest.raises(TypeError):
            tasks.join()
        double.assert_awaited_once_with(1)
    assert await tasks.double(1) == 2
    assert tasks.join(["a", "b"]) == "a,b"


async def test_the_methods_of_a_task_can_be_patched(tasks: ModuleType) -> None:
    with mock.patch.object(tasks.double, "enqueue") as enqueue, mock.patch(f"{NAME}.join.enqueue_sync") as enqueue_sync:
        tasks.double.enqueue(1)
        tasks.join.enqueue_sync(["a"])
    enqueue.assert_called_once_with(1)
    enqueue_sync.assert_called_once_with(["a"])
    assert tasks.double.enqueue.__func__ is Task.enqueue


@pytest.mark.parametrize("autospec", [False, True])
async def test_a_task_can_be_patched_as_a_whole(tasks: ModuleType, autospec: bool) -> None:
    original = tasks.double
    with mock.patch(f"{NAME}.double", autospec=autospec or None) as double:
        double.return_value = 5
        assert await tasks.double(1) == 5
        if autospec:
            tasks.double.enqueue(1)
            double.enqueue.assert_called_once_with(1)
            with pytest.raises(TypeError):
                tasks.double("too", "many")
            with pytest.raises(AttributeError):
                _ = tasks.double.enqeue
        else:
            await tasks.double.enqueue(1)
            double.enqueue.assert_awaited_once_with(1)
    assert tasks.double is original


def test_a_misspelled_attribute_of_a_task_is_refused(tasks: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no attribute 'max_retry'; did you mean 'max_retries'"):
        tasks.double.max_retry = 5
    with pytest.raises(AttributeError, match="no attribute 'enqeue'"):
        _ = tasks.double.enqeue
    tasks.double.max_retries = 5
    assert tasks.double.max_retries == 5

"""Inspects a task's function without calling it: its kind, its name, its location."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import CodeType, FunctionType, MethodType
from typing import Any, cast

_CACHE = type(lru_cache(len))

# Of code.co_flags; `inspect` names them and loads slowly.
_COROUTINE, _GENERATOR, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x80, 0x20, 0x100, 0x200


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether `fn` is a coroutine function. Raises TypeError for a generator function.

    False is not conclusive: a plain decorator around a coroutine function looks like an ordinary
    function.
    """
    target = call_target(fn)
    flags = target.__code__.co_flags if isinstance(target, FunctionType) else 0
    if flags & (_GENERATOR | _ASYNC_GENERATOR) and not flags & _ITERABLE_COROUTINE:
        raise TypeError(f"{label(fn)} is a generator function; a task must return its result, not yield it")
    if isinstance(target, FunctionType) and not target.__dict__:
        return bool(flags & _COROUTINE)
    # It may be marked as a coroutine function, or be compiled: the slow check covers all cases.
    from inspect import iscoroutinefunction

    return iscoroutinefunction(target)


def call_target(fn: object) -> object:
    """Return the function that runs when `fn` is called; unwraps partials, methods, static methods
    and callable objects.
    """
    for _ in range(100):  # an object's `__call__` may be another such object, even itself
        if isinstance(fn, partial):
            fn = fn.func
        elif isinstance(fn, MethodType | staticmethod):
            fn = cast(MethodType, fn).__func__
        elif isinstance(fn, FunctionType) or not _has_own_call(fn):
            break
        else:
            fn = cast(object, type(fn).__call__)
    return fn


def _has_own_call(fn: object) -> bool:
    call: object = getattr(type(fn), "__call__", None)  # noqa: B004 - the method itself is wanted
    return isinstance(call, FunctionType | MethodType | partial | staticmethod)


def without_cache(fn: Any) -> Any:
    """Return `fn` without the caches of `functools`, which pass all arguments on as they are."""
    if isinstance(fn, _CACHE):
        return without_cache(cast(Any, fn).__wrapped__)
    if type(fn) is partial:
        return partial(without_cache(fn.func), *fn.args, **fn.keywords)
    if isinstance(fn, MethodType) and isinstance(cast(Any, fn).__func__, _CACHE):
        return MethodType(without_cache(cast(Any, fn).__func__), fn.__self__)
    return fn


def implementations(fn: object) -> Mapping[Any, Callable[..., Any]] | None:
    """Return the functions among which `fn` chooses, if `functools.singledispatch` made it; else
    None.
    """
    if isinstance(fn, FunctionType) and fn.__globals__.get("__name__") == "functools":
        found: Mapping[Any, Callable[..., Any]] | None = fn.__dict__.get("registry")
        return found
    return None


def written_function(fn: object) -> object:
    """Return the function as written: like `call_target`, but also follows `__wrapped__`."""
    target = call_target(fn)
    for _ in range(100):
        inner: object = getattr(target, "__wrapped__", None)
        if inner is None or inner is target:
            break
        target = call_target(inner)
    return target


class OfTarget:
    """A task attribute that returns the same attribute of its function's call target; missing if
    that has none.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, task: Any, owner: type) -> Any:
        return self if task is None else getattr(call_target(task.fn), self._name)


def own_name(fn: Callable[..., Any]) -> str:
    """Return the function's name. Raises TypeError if it has none."""
    name: object = getattr(fn, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"{label(fn)} has no __name__; name the task with @app.task(name=...)")
    return name


def source(fn: Callable[..., Any]) -> str:
    """Return where the function is defined, as `file:line`."""
    code: object = getattr(written_function(fn), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, CodeType) else label(fn)


def global_name(value: Any) -> str:
    """Return the global name of `value` in `value.__module__`.

    Raises PicklingError if there is none.
    """
    module = sys.modules.get(value.__module__)
    qualname: str = value.__qualname__
    found: object = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if found is value:
        return qualname
    for name, other in list(vars(module).items()) if module is not None else ():
        if other is value:
            return name
    from pickle import PicklingError

    raise PicklingError(
        f"{value!r} is pickled by reference, and the module {value.__module__} has no global name for it; "
        f"define it at the top of the module"
    )


def label(fn: Callable[..., Any]) -> str:
    """Return the function's name for error messages."""
    qualname = str(getattr(fn, "__qualname__", ""))
    return repr(qualname) if qualname else f"the {type(fn).__name__}"

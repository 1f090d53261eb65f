"""A registered task, and how a function becomes one."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypedDict, TypeVar

from ardiq._functions import OfTarget, global_name, is_async, own_name, source
from ardiq._functions.signature import Signature
from ardiq.checks import (
    LONGEST_MS,
    check_bool,
    check_int,
    check_known,
    check_seconds,
    check_task_name,
    did_you_mean,
    kind_of,
)
from ardiq.dispatch import Dispatchable
from ardiq.options import lane_index

if TYPE_CHECKING:
    from datetime import timedelta

    from ardiq.app import Ardiq

P = ParamSpec("P")
R = TypeVar("R")

_MOST_RETRIES = 1_000_000

_CHECKS: dict[str, Callable[[str, Any], object]] = {
    "max_retries": lambda name, value: check_int(name, value, 0, _MOST_RETRIES),
    "backoff_ms": lambda name, value: check_int(name, value, 0, LONGEST_MS),
    "timeout": lambda name, value: None if value is None else check_seconds(name, value),
    "expire_ms": lambda name, value: check_int(name, value, 0, LONGEST_MS),
    "result_ttl_ms": lambda name, value: None if value is None else check_int(name, value, -LONGEST_MS, LONGEST_MS),
    "unique": check_bool,
    "silent": check_bool,
}
"""The checks of a task's options.

They run when the task is registered and when a test replaces an option.
"""
LONGEST_SCHEDULE_NAME = 230
"""An occurrence has the id `cron:<name>:<epoch ms>`."""

_ANNOTATIONS = "__annotations__" if sys.version_info < (3, 14) else "__annotate__"  # 3.14 evaluates annotations lazily


class TaskOptions(TypedDict, total=False):
    """The options of `@app.task(...)` and `@app.cron(...)`.

    Attributes:
        name: The task's name; defaults to the function's.
        max_retries: How many attempts may follow the first; defaults to 3.
        backoff_ms: The base of the delay before the next attempt, in milliseconds: base × *n*²
            after the *n*-th attempt, at most an hour. 0 (the default) means a base of one second.
        timeout: The longest time for one attempt, in seconds or as a timedelta; None (the default)
            means no limit.
        priority: The lane; None (the default) means the app's default lane.
        expire_ms: Fail a job with the value `"expired"` if it has not started this many
            milliseconds after it was enqueued, or, if it waits for other jobs, after it became
            ready. 0 (the default) means never.
        result_ttl_ms: How long the result is kept, in milliseconds. None (the default) means the
            app's setting, 0 means that it is not stored, and a negative number means forever.
        unique: Whether there is at most one unfinished job for each distinct call (same task and
            arguments). Another enqueue of the same call returns the existing job.
        silent: Whether to log nothing about attempts that succeed or fail.
    """

    name: str | None
    max_retries: int
    backoff_ms: int
    timeout: float | timedelta | None
    priority: str | None
    expire_ms: int
    result_ttl_ms: int | None
    unique: bool
    silent: bool


class Task(Dispatchable[P, R]):
    """A function that workers can run.

    `@app.task` and `@app.cron` create tasks. Calling a task calls the function directly, without
    the queue. For an `async def` task, this returns a coroutine.

    Tools see a task as its function: it has the same name, module, documentation and signature.
    Tasks are pickled by reference, and tests can patch their methods and `fn`.

    Attributes:
        name: The task's name in the registry and on the wire.
        fn: The function.
        is_async: Whether the function is a coroutine function.
        source: Where the function is defined, as `file:line`.
        max_retries: How many attempts may follow the first.
        backoff_ms: The base of the delay between attempts, in milliseconds; 0 means one second.
        timeout: The longest time for one attempt, in seconds; None means no limit.
        priority: The lane; None means the app's default lane.
        expire_ms: How long after its enqueue a job may still start, in milliseconds; 0 means no
            limit.
        result_ttl_ms: How long results are kept, in milliseconds; None means the app's setting.
        unique: Whether there is at most one unfinished job for each distinct call (same task and
            arguments).
        silent: Whether nothing is logged about attempts that succeed or fail.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "backoff_ms",
        "expire_ms",
        "fn",
        "is_async",
        "max_retries",
        "priority",
        "result_ttl_ms",
        "silent",
        "source",
        "timeout",
        "unique",
    )

    def __init__(
        self,
        app: Ardiq,
        fn: Callable[P, R] | Callable[P, Awaitable[R]],
        *,
        is_async: bool,
        name: str | None = None,
        max_retries: int = 3,
        backoff_ms: int = 0,
        timeout: float | timedelta | None = None,
        priority: str | None = None,
        expire_ms: int = 0,
        result_ttl_ms: int | None = None,
        unique: bool = False,
        silent: bool = False,
    ) -> None:
        self.fn = fn
        self.is_async = is_async
        self.source = source(fn)
        super().__init__(
            app,
            check_task_name(own_name(fn) if name is None else name),
            Signature(fn),
            lane=lane_index(app._lanes, app.default_priority if priority is None else priority),
            expire_ms=0,
            unique=False,
        )
        # All of these are checked by `__setattr__`.
        self.max_retries = max_retries
        self.backoff_ms = backoff_ms
        self.timeout = None if timeout is None else check_seconds("timeout", timeout)
        self.priority = priority
        self.expire_ms = expire_ms
        self.result_ttl_ms = result_ttl_ms
        self.unique = unique
        self.silent = silent
        self._look_like(fn)

    def _look_like(self, fn: Callable[..., Any]) -> None:
        # Do not use `self.__dict__`: once it exists, each method look-up takes longer.
        self.__wrapped__ = fn
        self.__name__ = str(getattr(fn, "__name__", self.name))
        self.__qualname__ = str(getattr(fn, "__qualname__", self.__name__))
        self.__module__ = str(getattr(fn, "__module__", None))
        self.__doc__ = fn.__doc__
        setattr(self, _ANNOTATIONS, getattr(fn, _ANNOTATIONS, None))
        setattr(self, "__call__", fn)  # noqa: B010 - calls ignore it; `mock` reads it for an autospec's signature

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R | Awaitable[R]:
        """Call the function directly, without the queue. For an `async def` task, this returns a
        coroutine.
        """
        return self.fn(*args, **kwargs)

    # `inspect` and `asyncio` use these to detect a coroutine function. They come from the function
    # that is called.
    __code__ = OfTarget("__code__")
    __defaults__ = OfTarget("__defaults__")
    __kwdefaults__ = OfTarget("__kwdefaults__")
    _is_coroutine = OfTarget("_is_coroutine")
    _is_coroutine_marker = OfTarget("_is_coroutine_marker")

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            # Existing attributes may be replaced, for example by a test. A misspelled name would
            # have no effect, so reject it.
            if not (name.startswith("__") or hasattr(type(self), name)):
                known = [known for known in dir(type(self)) if not known.startswith("_")]
                raise AttributeError(
                    f"a task has no attribute {name!r}{did_you_mean(name, known)}", name=name, obj=self
                )
            if name in _CHECKS:
                value = _CHECKS[name](name, value)
            if name == "priority":
                self._lane = lane_index(self._app._lanes, self._app.default_priority if value is None else value)
            super().__setattr__(name, value)
            if name in ("expire_ms", "unique"):
                super().__setattr__(f"_{name}", value)

    def __reduce__(self) -> str:
        # pickle treats a string as the name of a global in the module `self.__module__`.
        return global_name(self)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object], /) -> Self:
        return self


class AsyncTask(Task[P, R]):
    """A task whose function is a coroutine function. It runs on the worker's event loop."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
            """Call the function directly, without the queue. This returns a coroutine."""
            ...


class SyncTask(Task[P, R]):
    """A task whose function is an ordinary function. It runs in a thread of the worker's pool."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
            """Call the function directly, without the queue."""
            ...


def make_task(app: Ardiq, fn: object, options: TaskOptions) -> Task[..., Any]:
    """Return the task for a function. Raises TypeError if `fn` cannot be a task."""
    if isinstance(fn, Task):
        raise TypeError(f"{fn.name!r} is already a task; pass its function, {fn.name}.fn")
    if not callable(fn):
        raise TypeError(
            f"a task must be a function, not {kind_of(fn)}; pass options by keyword, as in @app.task(name=...)"
        )
    asynchronous = is_async(fn)
    return (AsyncTask if asynchronous else SyncTask)(app, fn, is_async=asynchronous, **options)


def task_decorator(app: Ardiq, fn: Callable[..., Any] | None, options: TaskOptions) -> Any:
    """Register a function and return the task; without a function, return the decorator."""

    def register(fn: Callable[..., Any]) -> Task[..., Any]:
        return register_task(app._registry, make_task(app, fn, options))

    check_known("@app.task()", options, TaskOptions.__annotations__)
    return register if fn is None else register(fn)


def register_task(registry: dict[str, Task[..., Any]], task: Task[..., Any]) -> Task[..., Any]:
    """Add a task to a registry and return it. Raises ValueError if its name is taken."""
    known = registry.get(task.name)
    if known is not None:
        raise ValueError(
            f"the name {task.name!r} is taken by the task at {known.source}; "
            f"set another name for the task at {task.source} with name="
        )
    registry[task.name] = task
    return task


def check_schedulable(task: Task[..., Any]) -> None:
    """Raise if a schedule cannot enqueue the task: it passes no arguments, and its job ids contain
    the name.
    """
    if len(task.name) > LONGEST_SCHEDULE_NAME:
        raise ValueError(
            f"a scheduled task's name must have at most {LONGEST_SCHEDULE_NAME} characters; "
            "set a shorter one with name="
        )
    if task._signature.problem((), {}) is not None:
        raise TypeError(f"{task.name!r} has required arguments, but a schedule passes none; add defaults")

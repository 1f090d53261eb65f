"""A registered task, and how a function becomes one."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, cast

from ardiq.checks import LONGEST_MS, flag, kind_of, seconds, task_name, whole
from ardiq.dispatch import Dispatchable

if TYPE_CHECKING:
    from datetime import timedelta

    from ardiq.app import Ardiq

P = ParamSpec("P")
R = TypeVar("R")

_COROUTINE, _GENERATOR, _ASYNC_GENERATOR = 0x80, 0x20, 0x200  # of code.co_flags; `inspect` names them and loads slowly
_MOST_RETRIES = 1_000_000
_LONGEST_SCHEDULE_NAME = 230  # an occurrence has the id cron:<name>:<epoch ms>


class TaskOptions(TypedDict, total=False):
    """What `@app.task(...)` and `@app.cron(...)` take by keyword."""

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
    """A function that workers can run. Calling it runs the function here and now, without the queue.

    `name`: the name in the registry and on the wire. `fn`: the function. `priority`: its lane, None for the app's
    default. `timeout` is in seconds. `result_ttl_ms` None means the app's.
    """

    __slots__ = (
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
        self.source = _source(fn)
        self.max_retries = whole("max_retries", max_retries, 0, _MOST_RETRIES)
        self.backoff_ms = whole("backoff_ms", backoff_ms, 0, LONGEST_MS)
        self.timeout = None if timeout is None else seconds("timeout", timeout)
        self.priority = priority
        self.expire_ms = whole("expire_ms", expire_ms, 0, LONGEST_MS)
        self.result_ttl_ms = (
            None if result_ttl_ms is None else whole("result_ttl_ms", result_ttl_ms, -LONGEST_MS, LONGEST_MS)
        )
        self.unique = flag("unique", unique)
        self.silent = flag("silent", silent)
        super().__init__(
            app,
            task_name(_own_name(fn) if name is None else name),
            fn,
            lane=app._lane_index(app.default_priority if priority is None else priority),
            expire_ms=self.expire_ms,
            unique=self.unique,
        )

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R | Awaitable[R]:
        """Run the function here and now."""
        return self.fn(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[P, R] | Callable[P, Awaitable[R]]:
        # `inspect.signature` and documentation tools look through the task at its function.
        return self.fn

    @property
    def __name__(self) -> str:
        return self.name


class AsyncTask(Task[P, R]):
    """A task whose function is a coroutine function: it runs on the worker's event loop."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
            """Run the function here and now."""
            ...


class SyncTask(Task[P, R]):
    """A task whose function is an ordinary one: it runs in a thread of the worker's pool."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
            """Run the function here and now."""
            ...


def make_task(app: Ardiq, fn: object, options: TaskOptions) -> Task[..., Any]:
    """The task for a function; raises TypeError for what cannot be one."""
    if isinstance(fn, Task):
        raise TypeError(f"{fn.name!r} is a task already; pass its function, {fn.name}.fn")
    if not callable(fn):
        raise TypeError(
            f"a task must be a function, not {kind_of(fn)}; options go by keyword, as in @app.task(name=...)"
        )
    is_async = _is_async(fn)
    return (AsyncTask if is_async else SyncTask)(app, fn, is_async=is_async, **options)


def check_schedulable(task: Task[..., Any]) -> None:
    """Raise when a schedule could not enqueue the task: it passes no arguments, and makes an id of the name."""
    if len(task.name) > _LONGEST_SCHEDULE_NAME:
        raise ValueError(f"the name of a schedule must have at most {_LONGEST_SCHEDULE_NAME} characters")
    fn = task.fn
    if not isinstance(fn, FunctionType):
        return
    code = fn.__code__
    keyword_only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    if code.co_argcount > len(fn.__defaults__ or ()) or not set(keyword_only).issubset(fn.__kwdefaults__ or {}):
        raise TypeError(f"{task.name!r} takes arguments that have no default; a schedule calls it without any")


def _is_async(fn: Callable[..., Any]) -> bool:
    flags = fn.__code__.co_flags if isinstance(fn, FunctionType) else 0
    if flags & (_GENERATOR | _ASYNC_GENERATOR):
        raise TypeError(f"{_label(fn)} is a generator; a task must return its result")
    if isinstance(fn, FunctionType) and not fn.__dict__:
        return bool(flags & _COROUTINE)
    # A wrapper, a partial, a callable object or a compiled function: the slow way knows about all of them.
    from inspect import iscoroutinefunction

    return iscoroutinefunction(fn) or (not isinstance(fn, FunctionType) and iscoroutinefunction(type(fn).__call__))


def _own_name(fn: Callable[..., Any]) -> str:
    name: object = getattr(fn, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"{_label(fn)} has no __name__; name the task with @app.task(name=...)")
    return name


def _source(fn: Callable[..., Any]) -> str:
    code = _code(fn)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else _label(fn)


def _code(fn: object) -> CodeType | None:
    """The code of the function that somebody wrote, behind partials and wrappers."""
    from functools import partial

    inner = fn
    while isinstance(inner, partial) or (
        isinstance(inner, FunctionType | MethodType) and hasattr(inner, "__wrapped__")
    ):
        inner = cast(object, getattr(inner, "func" if isinstance(inner, partial) else "__wrapped__"))
    code: object = getattr(inner, "__code__", None)
    if not isinstance(code, CodeType):
        code = getattr(getattr(type(inner), "__call__", None), "__code__", None)  # noqa: B004 - its code is wanted
    return code if isinstance(code, CodeType) else None


def _label(fn: Callable[..., Any]) -> str:
    return f"the {type(fn).__name__}" if not hasattr(fn, "__qualname__") else repr(fn.__qualname__)

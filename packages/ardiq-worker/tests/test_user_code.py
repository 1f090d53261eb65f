"""User code that runs when a run starts or ends, and raises: the outcome is recorded, and the slot
becomes free.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from ardiq import Reject, Retry
from ardiq_core import DEAD, FAILURE, HAND_BACK, RETRY, SUCCESS, UNKNOWN_TASK
from ardiq_worker.outcome import Verdict
from tests.bench import Bench

KINDS: list[type[BaseException]] = [
    ValueError, StopIteration, MemoryError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit,
]  # fmt: skip
kinds = pytest.mark.parametrize("kind", KINDS)
few_kinds = pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
PLAIN = {int, bytes, str, type(None)}


def blow(kind: type[BaseException]) -> Callable[..., Any]:
    """A function that raises `kind`, whatever it is called with."""

    def raises(*_args: object, **_kwargs: object) -> NoReturn:
        raise kind("from user code")

    return raises


def odd_str(kind: type[BaseException]) -> str:
    """Return a string whose methods raise."""
    names = ("__str__", "__format__", "__len__", "__getitem__", "__add__", "__radd__", "__bool__", "encode", "__repr__")
    odd = type("OddStr", (str,), {name: blow(kind) for name in names})("odd")
    assert isinstance(odd, str)
    return odd


def odd_int(kind: type[BaseException]) -> int:
    names = (
        "__lt__",
        "__gt__",
        "__le__",
        "__ge__",
        "__eq__",
        "__int__",
        "__index__",
        "__bool__",
        "__hash__",
        "__add__",
    )
    odd = type("OddInt", (int,), {name: blow(kind) for name in names})(7)
    assert isinstance(odd, int)
    return odd


def error_with(base: type[BaseException] = Exception, **members: Any) -> type[BaseException]:
    return type("OddError", (base,), members)


class Returns:
    """Stands for a method that returns something odd."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __get__(self, _instance: object, _owner: object) -> Callable[..., object]:
        return lambda *_args: self.value


def odd_metaclass(kind: type[BaseException]) -> type[BaseException]:
    meta = type("Meta", (type,), {})
    made: type[BaseException] = meta("OddError", (Exception,), {})
    for name in ("__getattribute__", "__instancecheck__", "__subclasscheck__", "__eq__", "__hash__", "__repr__"):
        setattr(meta, name, blow(kind))
    return made


def with_odd_names(kind: type[BaseException]) -> type[BaseException]:
    made = error_with()
    made.__qualname__ = odd_str(kind)
    made.__module__ = odd_str(kind)
    return made


ERRORS: dict[str, Callable[[type[BaseException]], type[BaseException]]] = {
    "__repr__": lambda kind: error_with(__repr__=blow(kind)),
    "__str__": lambda kind: error_with(__str__=blow(kind)),
    "__str__ and __repr__": lambda kind: error_with(__str__=blow(kind), __repr__=blow(kind)),
    "__repr__ returns a string of its own": lambda kind: error_with(__repr__=Returns(odd_str(kind))),
    "__str__ returns a string of its own": lambda kind: error_with(__str__=Returns(odd_str(kind))),
    "__repr__ returns no string": lambda _: error_with(__repr__=Returns(7)),
    "__traceback__": lambda kind: error_with(__traceback__=property(blow(kind))),
    "__traceback__ is something else": lambda _: error_with(__traceback__="gone"),
    "__cause__": lambda kind: error_with(__cause__=property(blow(kind))),
    "__context__": lambda kind: error_with(__context__=property(blow(kind))),
    "__suppress_context__": lambda kind: error_with(__suppress_context__=property(blow(kind))),
    "__notes__": lambda kind: error_with(__notes__=property(blow(kind))),
    "args": lambda kind: error_with(args=property(blow(kind))),
    "__class__": lambda kind: error_with(__class__=property(blow(kind))),
    "__class__ says Retry": lambda _: error_with(__class__=property(lambda _self: Retry)),
    "__class__ says CancelledError": lambda _: error_with(__class__=property(lambda _self: asyncio.CancelledError)),
    "__getattribute__": lambda kind: error_with(__getattribute__=blow(kind)),
    "__eq__ and __hash__": lambda kind: error_with(__eq__=blow(kind), __hash__=blow(kind)),
    "__bool__ and __len__": lambda kind: error_with(__bool__=blow(kind), __len__=blow(kind)),
    "metaclass": odd_metaclass,
    "__qualname__ and __module__": with_odd_names,
    "__module__ is no string": lambda _: error_with(__module__=7),
    "of a base exception": lambda kind: error_with(BaseException, __repr__=blow(kind), __str__=blow(kind)),
    "of Reject": lambda kind: error_with(Reject, __repr__=blow(kind), message=property(blow(kind), lambda *_: None)),
    "of a group": lambda kind: error_with(ExceptionGroup, __repr__=blow(kind), exceptions=property(blow(kind))),
    "of OSError": lambda kind: error_with(OSError, errno=property(blow(kind)), strerror=property(blow(kind))),
}


def made(error_type: type[BaseException]) -> BaseException:
    try:
        return error_type("text", [ValueError()]) if issubclass(error_type, BaseExceptionGroup) else error_type()
    except BaseException as error:  # noqa: BLE001 - then that is what the task raises
        return error


async def check(bench: Bench, outcome: Verdict, *expected: int) -> None:
    """Check that the outcome has an expected kind and plain parts, that no slot is held, and that
    the next job runs.
    """
    assert outcome.kind in expected
    assert {type(part) for part in outcome} <= PLAIN, "the engine gets no objects of the user's"
    assert bench.executor.running == 0
    for sync in (False, True):
        bench.app.task(name=f"next-{sync}")(_plain if sync else _coroutine)
        bench.start(f"next-{sync}")
        assert bench.value(await bench.next()) == "next"


def _plain() -> str:
    return "next"


async def _coroutine() -> str:
    return "next"


@kinds
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("place", ERRORS)
async def test_whatever_an_exception_of_the_tasks_does(
    bench: Bench, place: str, sync: bool, kind: type[BaseException]
) -> None:
    error = made(ERRORS[place](kind))

    def fail_in_thread() -> None:
        raise error

    async def fail() -> None:
        raise error

    fn = fail_in_thread if sync else fail
    bench.app.task(name="again")(fn)
    bench.app.task(name="fails", max_retries=0)(fn)
    bench.start("again")
    await check(bench, await bench.next(), FAILURE if issubclass(type(error), Reject) else RETRY)
    bench.start("fails")
    assert (await bench.next()).kind == FAILURE


@kinds
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("delay", ["raises", "is an int of its own", "is no int", "is missing", "is huge"])
async def test_whatever_a_retry_asks_for(bench: Bench, delay: str, sync: bool, kind: type[BaseException]) -> None:
    retries: dict[str, dict[str, Any]] = {
        "raises": {"delay_ms": property(blow(kind), lambda *_: None)},
        "is an int of its own": {"delay_ms": property(lambda _: odd_int(kind), lambda *_: None)},
        "is no int": {"delay_ms": property(lambda _: odd_str(kind), lambda *_: None)},
        "is missing": {"__init__": lambda _self: None},
        "is huge": {"delay_ms": property(lambda _: 10**400, lambda *_: None)},
    }
    retry = error_with(Retry, **retries[delay])

    def again_in_thread() -> None:
        raise retry

    async def again() -> None:
        raise retry

    outcome = await bench.run(again_in_thread if sync else again, name="again")
    assert isinstance(outcome.ttl_or_delay_ms, int)
    assert 0 <= outcome.ttl_or_delay_ms <= 2**45
    await check(bench, outcome, RETRY)


@kinds
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("member", ["__getattribute__", "__call__"])
async def test_a_callable_object_that_raises_when_looked_at(
    hasty: Bench, member: str, sync: bool, kind: type[BaseException]
) -> None:
    """Its run is abandoned too, and the log about that asks for its name."""
    release = threading.Event()

    async def wait() -> None:
        await asyncio.to_thread(release.wait, 10)

    def call(_self: object) -> Any:
        return (release.wait(10) if sync else wait()) if member != "__call__" else blow(kind)()

    task: Any = type("Odd", (), {"__call__": call})()
    hasty.app.task(name="odd", timeout=0.01, max_retries=0)(task)
    if not sync:
        hasty.app._registry["odd"].is_async = True
    if member != "__call__":
        setattr(type(task), member, blow(kind))
    hasty.start("odd")
    outcome = await hasty.next()
    release.set()
    await check(hasty, outcome, FAILURE)


class Filter(logging.Filter):
    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self.filter = blow(kind)  # type: ignore[method-assign]


class Handler(logging.Handler):
    def __init__(self, kind: type[BaseException], where: str) -> None:
        super().__init__()
        setattr(self, where, blow(kind))


LOGGING = (
    "emit",
    "handle",
    "acquire",
    "filter of the handler",
    "filter of the logger",
    "factory",
    "isEnabledFor",
    "log",
)
loggings = pytest.mark.parametrize("where", LOGGING)


@pytest.fixture
def broken_log(request: pytest.FixtureRequest) -> Iterator[Callable[[str, type[BaseException]], None]]:
    """A function that makes the log of the worker raise."""
    logger = logging.getLogger("ardiq.worker")
    factory, level = logging.getLogRecordFactory(), logger.level
    logger.setLevel(logging.DEBUG)
    undo: list[Callable[[], object]] = []

    def breaks(where: str, kind: type[BaseException]) -> None:
        if where == "factory":
            logging.setLogRecordFactory(blow(kind))
        elif where in ("isEnabledFor", "log"):
            setattr(logger, where, blow(kind))
            undo.append(lambda: delattr(logger, where))
        elif where == "filter of the logger":
            filters = Filter(kind)
            logger.addFilter(filters)
            undo.append(lambda: logger.removeFilter(filters))
        else:
            handler = Handler(kind, where if "filter" not in where else "filter")
            logger.addHandler(handler)
            undo.append(lambda: logger.removeHandler(handler))

    yield breaks
    logging.setLogRecordFactory(factory)
    logger.setLevel(level)
    for step in undo:
        step()


async def _hang() -> None:
    await asyncio.sleep(60)


async def _deaf() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(60)


async def _fails() -> None:
    raise ValueError


async def _unserializable() -> object:
    return threading.Lock()


ENDS: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
    "returned": (_coroutine, {}, SUCCESS),
    "again": (_fails, {}, RETRY),
    "failed": (_fails, {"max_retries": 0}, FAILURE),
    "timed out": (_hang, {"timeout": 0.01, "max_retries": 0}, FAILURE),
    "abandoned": (_deaf, {"timeout": 0.01, "max_retries": 0}, FAILURE),
    "thread abandoned": (lambda: threading.Event().wait(0.3), {"timeout": 0.01, "max_retries": 0}, FAILURE),
    "unserializable": (_unserializable, {}, FAILURE),
}


@few_kinds
@loggings
@pytest.mark.parametrize("end", ENDS)
async def test_a_log_that_raises_at_the_end_of_a_run(
    hasty: Bench, broken_log: Callable[..., None], end: str, where: str, kind: type[BaseException]
) -> None:
    broken_log(where, kind)
    hasty.executor.verbose = True
    fn, options, expected = ENDS[end]
    await check(hasty, await hasty.run(fn, name="ends", **options), expected)


@few_kinds
@loggings
async def test_a_log_that_raises_before_a_run(
    bench: Bench, broken_log: Callable[..., None], where: str, kind: type[BaseException]
) -> None:
    broken_log(where, kind)
    bench.app.task(name="begins")(_coroutine)
    bench.start("unknown")
    assert (await bench.next()).kind == UNKNOWN_TASK
    bench.start("begins", body=b"\xc1")
    await check(bench, await bench.next(), DEAD)


@few_kinds
@loggings
async def test_a_log_that_raises_when_a_run_is_returned_to_the_queue(
    bench: Bench, broken_log: Callable[..., None], where: str, kind: type[BaseException]
) -> None:
    broken_log(where, kind)
    bench.app.task(name="hang")(_hang)
    bench.start("hang")
    await asyncio.sleep(0)
    bench.executor.cancel_all()
    await check(bench, await bench.next(), HAND_BACK)

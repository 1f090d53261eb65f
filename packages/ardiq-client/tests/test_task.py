"""Registration, and what happens to a call before it is sent."""

import functools
import inspect
from datetime import timedelta
from typing import Any

import pytest

from ardiq import Ardiq, SerializationError, Task
from ardiq.context import TaskContext, _current
from ardiq.dispatch import Dispatch
from tests.shapes import Submission, submission


def when(dispatch: Dispatch[..., Any], *args: Any) -> tuple[int, int, int, int]:
    """Lane, delay, due time and expiry of a call."""
    sent = Submission(*dispatch._submission(args, {}))
    return sent.lane, sent.delay_ms, sent.due_ms, sent.expire_ms


@pytest.fixture
def app() -> Ardiq:
    return Ardiq("redis://127.0.0.1:1", priorities=["low", "default", "high"])


def test_bare_and_called_decorators_register_alike(app: Ardiq) -> None:
    @app.task
    async def bare(a: int) -> int:
        return a

    @app.task()
    def called(a: int) -> int:
        return a

    direct = app.task(name="direct")(lambda: 1)
    assert isinstance(bare, Task)
    assert (bare.name, bare.is_async, called.name, called.is_async) == ("bare", True, "called", False)
    assert direct.name == "direct"
    assert app.tasks == ["bare", "called", "direct"]
    assert app._registry["bare"] is bare


def test_defaults_and_options_of_a_task(app: Ardiq) -> None:
    @app.task
    def plain() -> None: ...

    assert (plain.max_retries, plain.backoff_ms, plain.timeout, plain.priority) == (3, 0, None, None)
    assert (plain.expire_ms, plain.result_ttl_ms, plain.unique, plain.silent) == (0, None, False, False)

    @app.task(
        name="n",
        max_retries=0,
        backoff_ms=5,
        timeout=timedelta(seconds=1.5),
        priority="high",
        expire_ms=7,
        result_ttl_ms=-1,
        unique=True,
        silent=True,
    )
    def full() -> None: ...

    assert (full.name, full.max_retries, full.backoff_ms, full.timeout, full.priority) == ("n", 0, 5, 1.5, "high")
    assert (full.expire_ms, full.result_ttl_ms, full.unique, full.silent) == (7, -1, True, True)


async def test_calling_a_task_runs_the_function(app: Ardiq) -> None:
    @app.task
    async def add(a: int, b: int) -> int:
        return a + b

    @app.task
    def sub(a: int, *, b: int) -> int:
        return a - b

    assert await add(2, 3) == 5
    assert sub(2, b=3) == -1
    assert add.fn(1, 1).close() is None  # type: ignore[union-attr]
    assert inspect.signature(sub) == inspect.signature(sub.fn)


def test_a_duplicate_name_names_both_places(app: Ardiq) -> None:
    @app.task(name="twice")
    def first() -> None: ...

    with pytest.raises(ValueError, match="'twice' is taken") as refused:

        @app.task(name="twice")
        def second() -> None: ...

    assert str(refused.value).count("test_task.py:") == 2
    assert app._registry["twice"] is first
    with pytest.raises(ValueError, match="is taken"):
        app.cron(every=1, name="twice")(first.fn)
    assert app._schedules == {}


class Callme:
    def __call__(self) -> int:
        return 1


class AsyncCallme:
    async def __call__(self) -> int:
        return 1


async def coro(a: int = 0) -> int:
    return a


def test_a_callable_without_a_name_needs_one(app: Ardiq) -> None:
    for fn in (Callme(), functools.partial(coro, 1)):
        with pytest.raises(TypeError, match=r"no __name__; name the task with @app.task\(name="):
            app.task(fn)
    assert app.task(name="object")(Callme()).name == "object"


def test_async_is_told_from_sync_whatever_the_callable(app: Ardiq) -> None:
    @functools.wraps(coro)
    async def wrapped(*args: Any) -> Any:
        return await coro(*args)

    @functools.wraps(coro)
    def hidden(*args: Any) -> Any:
        return 1

    class Holder:
        async def method(self) -> None: ...

    expected: list[tuple[Any, bool]] = [
        (functools.partial(coro, 1), True),
        (functools.partial(len, ()), False),
        (Callme(), False),
        (AsyncCallme(), True),
        (wrapped, True),
        (hidden, False),
        (Holder().method, True),
        (len, False),
    ]
    for number, (fn, is_async) in enumerate(expected):
        assert app.task(name=f"t{number}")(fn).is_async is is_async


def test_what_cannot_be_a_task_is_refused(app: Ardiq) -> None:
    def generator() -> Any:
        yield 1

    async def async_generator() -> Any:
        yield 1

    for fn in (generator, async_generator):
        with pytest.raises(TypeError, match="is a generator"):
            app.task(fn)
    with pytest.raises(TypeError, match="not str; pass options by keyword"):
        app.task("name")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not None"):
        app.task()(None)  # type: ignore[call-overload]
    registered = app.task(coro)
    with pytest.raises(TypeError, match="is already a task"):
        app.task(registered)


class TestSubmission:
    """The tuple that goes to the engine."""

    def test_of_a_plain_call(self, app: Ardiq) -> None:
        @app.task(name="t")
        async def task(a: int, *, b: int) -> None: ...

        plain = Submission(*task._submission((1,), {"b": 2}))
        assert plain == Submission(None, "t", 1, 0, 0, 0, None, None, plain.body)
        assert app._codec.decode_call(plain.body) == ((1,), {"b": 2})

    def test_of_a_call_with_options(self, app: Ardiq) -> None:
        task = app.task(name="t", priority="low", expire_ms=9)(coro)
        assert when(task) == (0, 0, 0, 9)
        headers = {"trace": "x"}
        bound = task.options(task_id="i", priority="high", delay_ms=1, schedule_ms=2, expire_ms=3, headers=headers)
        headers.clear()
        sent = Submission(*bound._submission((), {}))
        assert sent == Submission("i", "t", 2, 1, 2, 3, None, {"trace": "x"}, sent.body)
        assert when(task.options(delay_ms=5)) == (0, 5, 0, 9)
        assert Submission(*task.options(headers={})._submission((), {})).headers is None

    def test_of_a_task_known_by_name(self, app: Ardiq) -> None:
        far = Submission(*app.ref("far.away")._submission((1,), {}))
        assert far == Submission(None, "far.away", 1, 0, 0, 0, None, None, far.body)
        app.task(name="here", priority="high", expire_ms=4)(coro)
        assert when(app.ref("here"), 1) == (2, 0, 0, 4)
        assert when(app.ref("here").options(priority="low"), 1) == (0, 0, 0, 4)

    def test_arguments_may_have_any_name(self, app: Ardiq) -> None:
        def odd(self: int, fn: int, name: int, args: int) -> None: ...

        task = app.task(odd)
        body = submission(task.prepare(self=1, fn=2, name=3, args=4)).body
        assert app._codec.decode_call(body) == ((), {"self": 1, "fn": 2, "name": 3, "args": 4})
        with pytest.warns(RuntimeWarning, match="'odd' was never awaited"):
            app.send("odd", self=1, name=3, fn=2, args=4)

    def test_arguments_are_encoded_when_the_call_is_made(self, app: Ardiq) -> None:
        task = app.task(name="t")(coro)
        value = [1]
        prepared = task.prepare(value)  # type: ignore[arg-type]
        value.append(2)
        assert app._codec.decode_call(submission(prepared).body) == (([1],), {})

    def test_a_bad_argument_is_refused_by_every_way_in(self, app: Ardiq) -> None:
        task = app.task(name="t")(coro)
        for use in (task.enqueue, task.enqueue_sync, task.prepare, task.options(delay_ms=1).enqueue):
            with pytest.raises(SerializationError, match=r"argument 0 \('a'\), of type object"):
                use(object())  # type: ignore[arg-type]


class TestUnique:
    """The identity of a `unique` call."""

    def digest(self, app: Ardiq, *args: Any, **kwargs: Any) -> bytes | None:
        return submission(app._registry["f"].prepare(*args, **kwargs)).unique

    @pytest.fixture
    def app(self, app: Ardiq) -> Ardiq:
        @app.task(unique=True)
        def f(a: Any, b: Any = 5, /, c: Any = 6, *rest: Any, d: Any = 7, **more: Any) -> None: ...

        return app

    def test_is_sixteen_bytes_and_stable(self, app: Ardiq) -> None:
        digest = self.digest(app, 1, 2, c=3)
        assert digest == self.digest(app, 1, 2, c=3)
        assert digest is not None
        assert len(digest) == 16
        assert digest.hex() == "089f70e6cc336c51a8c13943adef3320"

    def test_does_not_depend_on_spelling_or_order(self, app: Ardiq) -> None:
        assert self.digest(app, 1, 2, 3) == self.digest(app, 1, 2, c=3)
        assert self.digest(app, 1, d=2, e=3, c=4) == self.digest(app, 1, c=4, e=3, d=2)
        assert self.digest(app, {"x": 1, "y": [{"p": 1, "q": 2}]}) == self.digest(
            app, {"y": [{"q": 2, "p": 1}], "x": 1}
        )
        one, other = {f"k{n}" for n in range(50)}, {f"k{n}" for n in reversed(range(50))}
        assert self.digest(app, one) == self.digest(app, other)
        assert submission(app.ref("f").prepare(1, c=2)).unique == self.digest(app, 1, c=2)

    def test_tells_different_calls_apart(self, app: Ardiq) -> None:
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((1,), {}),
            ((1.0,), {}),
            ((True,), {}),
            (("1",), {}),
            ((b"1",), {}),
            (([1],), {}),
            (((1,),), {}),
            (({1},), {}),
            (([1, 2],), {}),
            ((1, 2), {}),
            ((1, 5), {}),
            ((1, 2, 3, 4), {}),
            ((1,), {"d": 2}),
            ((1,), {"e": 2}),
            (({"a": 1},), {}),
            (({"a": "1"},), {}),
            (([["a"], "b"],), {}),
            (([["a", "b"]],), {}),
            (([[], ["a", "b"]],), {}),
        ]
        digests = {self.digest(app, *args, **kwargs) for args, kwargs in calls}
        assert len(digests) == len(calls)

    def test_depends_on_the_name(self, app: Ardiq) -> None:
        app.task(app._registry["f"].fn, name="g", unique=True)  # type: ignore[call-overload]
        assert submission(app._registry["g"].prepare(1)).unique != self.digest(app, 1)

    def test_is_there_only_where_it_is_asked_for(self, app: Ardiq) -> None:
        task = app._registry["f"]
        assert submission(task.options(unique=False).prepare(1)).unique is None
        assert submission(task.options(delay_ms=1).prepare(1)).unique == self.digest(app, 1)
        assert submission(app.ref("other").prepare(1)).unique is None
        named = app.ref("other").options(unique=True)
        assert (
            submission(named.prepare(1, a=2, b=3)).unique == submission(named.prepare(1, b=3, a=2)).unique is not None
        )

    def test_refuses_arguments_that_nest_too_deep(self, app: Ardiq) -> None:
        value: Any = 1
        for _ in range(500):
            value = [value]
        with pytest.raises(SerializationError, match="make them flatter"):
            self.digest(app, value)

    def test_works_with_a_serializer_of_the_app(self) -> None:
        import pickle

        app = Ardiq("redis://127.0.0.1:1", serializer=pickle.dumps, deserializer=pickle.loads)

        @app.task(unique=True)
        def f(a: Any, b: Any) -> None: ...

        assert (
            submission(f.prepare({"x": 1j, "y": 2}, 1)).unique == submission(f.prepare(b=1, a={"y": 2, "x": 1j})).unique
        )


def test_no_context_outside_of_a_task() -> None:
    from ardiq import current_task

    assert current_task() is None
    context = TaskContext("id", "name", 1, "queue", {}, 5)
    token = _current.set(context)
    try:
        assert current_task() is context
    finally:
        _current.reset(token)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("max_retries", None, TypeError),
        ("max_retries", "3", TypeError),
        ("max_retries", -1, ValueError),
        ("backoff_ms", 0.5, TypeError),
        ("timeout", "soon", TypeError),
        ("expire_ms", -1, ValueError),
        ("result_ttl_ms", "x", TypeError),
        ("unique", "yes", TypeError),
        ("priority", "nowhere", ValueError),
    ],
)
def test_an_option_that_is_replaced_is_checked(app: Ardiq, option: str, value: object, error: type[Exception]) -> None:
    task = app.task(name="work")(lambda: None)
    before = getattr(task, option)
    with pytest.raises(error):
        setattr(task, option, value)
    assert getattr(task, option) == before


def test_an_option_that_is_replaced_has_an_effect(app: Ardiq) -> None:
    task = app.task(name="work")(lambda: None)
    task.unique, task.expire_ms, task.timeout = True, 5000, timedelta(seconds=2)  # type: ignore[assignment]
    assert (task._unique, task._expire_ms, task.timeout) == (True, 5000, 2.0)
    lane, task.priority = task._lane, app.priorities[0]
    assert task._lane == 0
    task.priority = None
    assert task._lane == lane

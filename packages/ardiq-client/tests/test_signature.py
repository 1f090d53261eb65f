"""A call that does not match the task's function is refused before anything is sent."""

import functools
import inspect
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ardiq import Ardiq
from ardiq._functions.signature import MOST_FORMS, Signature
from ardiq.task import Task


@pytest.fixture
def app() -> Ardiq:
    return Ardiq("redis://127.0.0.1:1")


def send(user: int, text: str = "", /, subject: str = "", *, copy: bool = False, key: str) -> None: ...


CALLS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {"key": "k"}, "the task 'mail.send' needs its argument 'user'"),
    ((), {}, "the task 'mail.send' needs its arguments 'user' and 'key'"),
    ((1,), {}, "the task 'mail.send' needs its argument 'key'"),
    ((1, "a", "b", "c"), {"key": "k"}, "the task 'mail.send' takes at most 3 arguments by position, not 4"),
    (
        (1, "a", "b"),
        {"subject": "c", "key": "k"},
        "the task 'mail.send' gets its argument 'subject' twice, by position and by keyword",
    ),
    (
        (1,),
        {"subjekt": "c", "key": "k"},
        "the task 'mail.send' has no argument 'subjekt'; did you mean 'subject'?",
    ),
    ((), {"user": 1, "key": "k"}, "the task 'mail.send' takes its argument 'user' by position only"),
]


@pytest.mark.parametrize(("args", "kwargs", "message"), CALLS, ids=[message for _, _, message in CALLS])
async def test_every_way_in_refuses_a_call_that_does_not_fit(
    app: Ardiq, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    task: Task[..., Any] = app.task(name="mail.send")(send)
    ways_in: list[Any] = [
        *(task.enqueue, task.enqueue_sync, task.prepare),
        *(task.options(delay_ms=1).enqueue, app.ref("mail.send").enqueue, functools.partial(app.send, "mail.send")),
    ]
    for _ in range(2):
        for enqueue in ways_in:
            with pytest.raises(TypeError) as refused:
                enqueue(*args, **kwargs)
            assert str(refused.value) == message


def test_a_function_without_arguments_has_none_to_suggest(app: Ardiq) -> None:
    task = app.task(name="nothing")(lambda: None)
    with pytest.raises(TypeError, match=r"the task 'nothing' has no argument 'a'$"):
        task.prepare(a=1)  # type: ignore[call-arg]


def test_a_count_of_arguments_has_the_right_number(app: Ardiq) -> None:
    def nothing() -> None: ...
    def one(a: int) -> None: ...

    app.task(name="nothing")(nothing)
    app.task(name="one")(one)
    with pytest.raises(TypeError, match="the task 'nothing' takes no arguments by position, not 1"):
        app.ref("nothing").prepare(1)
    with pytest.raises(TypeError, match="the task 'one' takes at most 1 argument by position, not 2"):
        app.ref("one").prepare(1, 2)


def test_a_task_known_by_its_name_only_takes_any_call(app: Ardiq) -> None:
    app.ref("elsewhere").prepare(1, 2, a=3)


def injecting(fn: Any) -> Any:
    """A decorator that passes the function an argument that its callers do not pass."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn("session", *args, **kwargs)

    return wrapper


def test_a_decorator_may_pass_on_other_arguments_than_it_gets(app: Ardiq) -> None:
    @app.task
    @injecting
    def load(session: str, number: int) -> str:
        return f"{session} {number}"

    load.prepare(1)
    assert load(1) == "session 1"


class Callable:
    def __call__(self, a: int, b: int = 0) -> None: ...

    def method(self, a: int, b: int = 0) -> None: ...

    @classmethod
    def of_class(cls, a: int, b: int = 0) -> None: ...

    @staticmethod
    def static(a: int, b: int = 0) -> None: ...

    @functools.cache  # noqa: B019 - one object only
    def cached(self, a: int, b: int = 0) -> None: ...


def _declared(*args: Any) -> None: ...


_declared.__signature__ = inspect.signature(Callable.static)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "fn",
    [
        *(Callable(), Callable().method, Callable.of_class, Callable.static, Callable.__dict__["static"]),
        *(functools.partial(lambda _, a, b=0: None, 1), _declared),
        *(functools.cache(Callable.static), functools.lru_cache(Callable()), Callable().cached),
        functools.partial(functools.cache(lambda _, a, b=0: None), 1),
    ],
    ids=range(11),
)
def test_whatever_the_callable_its_calls_are_checked(app: Ardiq, fn: Any) -> None:
    task: Task[..., Any] = app.task(name="task")(fn)
    for args in ((), (1, 2, 3)):
        with pytest.raises(TypeError, match="the task 'task' "):
            task.prepare(*args)
    task.prepare(1)
    task.prepare(1, b=2)
    task.prepare(b=2, a=1)


def test_a_cache_around_a_decorator_takes_what_the_decorator_takes(app: Ardiq) -> None:
    fn: Any = functools.cache(injecting(lambda session, number: (session, number)))
    task: Task[..., Any] = app.task(name="load")(fn)
    task.prepare(1)
    assert task(1) == ("session", 1)


def test_a_single_dispatch_takes_what_one_of_its_functions_takes(app: Ardiq) -> None:
    @functools.singledispatch
    def show(value: Any, width: int = 0) -> None: ...

    task: Task[..., Any] = app.task(name="show")(show)
    with pytest.raises(TypeError, match="the task 'show' has no argument 'fill'"):
        task.prepare("text", fill="x")
    show.register(str, lambda value, *, fill: None)
    task.prepare("text", fill="x")
    task.prepare(1, width=2)
    task.prepare(1, 2)
    for args, kwargs in [((1, 2, 3), {}), ((1,), {"other": 1})]:
        with pytest.raises(TypeError, match="the task 'show' "):
            task.prepare(*args, **kwargs)
    with pytest.raises(TypeError, match="the task 'show' needs its first argument by position"):
        task.prepare(value=1)


def test_a_callable_without_a_signature_takes_any_call(app: Ardiq) -> None:
    fn: Any = int
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(fn)
    task: Task[..., Any] = app.task(name="int")(fn)
    task.prepare(1, 2, c=3)


def test_only_so_many_forms_of_calls_are_remembered() -> None:
    signature = Signature(lambda **more: None)
    for number in range(2 * MOST_FORMS):
        signature.check("task", (), {f"k{number}": 1})
    assert len(signature.known) == MOST_FORMS


parameters = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", "e"]), st.sampled_from(list(inspect._ParameterKind)), st.booleans()),
    unique_by=lambda parameter: parameter[0],
    max_size=5,
)


def make(chosen: list[tuple[str, Any, bool]], *, wrapped: bool) -> Any:
    """Return a function with these parameters: either a compiled one, or one whose signature only
    `inspect` knows.
    """
    order: list[inspect.Parameter] = []
    for kind in inspect._ParameterKind:
        names = [(name, optional) for name, its, optional in chosen if its is kind]
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            names = [(name, False) for name, _ in names[:1]]
        elif kind is not inspect.Parameter.KEYWORD_ONLY:
            after_default = any(one.default == 0 for one in order)
            names = sorted(((name, optional or after_default) for name, optional in names), key=lambda one: one[1])
        order += [inspect.Parameter(name, kind, **({"default": 0} if optional else {})) for name, optional in names]
    signature = inspect.Signature(order)
    scope: dict[str, Any] = {}
    exec(f"def made{signature}: pass", scope)
    if not wrapped:
        return scope["made"]
    return functools.partial(scope["made"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    parameters,
    st.lists(st.tuples(st.integers(0, 6), st.lists(st.sampled_from("abcdef"), unique=True, max_size=4)), max_size=12),
    st.booleans(),
)
def test_what_is_accepted_is_what_python_accepts(
    chosen: list[tuple[str, Any, bool]], calls: list[tuple[int, list[str]]], wrapped: bool
) -> None:
    app = Ardiq("redis://127.0.0.1:1")
    fn = make(chosen, wrapped=wrapped)
    task: Task[..., Any] = app.task(name="made")(fn)
    for count, keywords in calls:
        args, kwargs = (0,) * count, dict.fromkeys(keywords, 0)
        try:
            fn(*args, **kwargs)
        except TypeError:
            with pytest.raises(TypeError, match="the task 'made' "):
                task.prepare(*args, **kwargs)
        else:
            task.prepare(*args, **kwargs)

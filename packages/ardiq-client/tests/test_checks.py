"""Invalid input raises the documented error before any I/O: nothing here has a server."""

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ardiq import Ardiq, ArdiqError, InvalidIdError, PayloadTooLargeError, Reject, Retry
from ardiq.options import _DEFAULTS
from tests.shapes import submission

HUNDRED_YEARS_MS = 100 * 366 * 86_400_000


@pytest.fixture
def app() -> Ardiq:
    # No server listens at this port, so an attempt to connect would raise another error.
    return Ardiq("redis://127.0.0.1:1", priorities=["low", "default", "high"], connect_timeout_s=0.1)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARDIQ_REDIS_URL", raising=False)
    app = Ardiq()
    assert (app.redis_url, app.queue_name, app.priorities) == ("redis://localhost:6379", "default", ["default"])
    assert (app.default_priority, app.serializer, app.deserializer) == ("default", None, None)
    assert (app.cron_poll_s, app.concurrency, app.prefetch, app.sync_concurrency) == (1.0, 16, 32, 16)
    assert (app.idle_timeout_ms, app.result_ttl_ms, app.burst, app.shutdown_grace_s) == (60_000, 300_000, False, 30)
    assert (app.max_payload_bytes, app.connect_timeout_s, app.tasks) == (1024 * 1024, 5, [])
    assert app.worker_id == app.worker_id


def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARDIQ_REDIS_URL", "redis://elsewhere:1234")
    assert Ardiq().redis_url == "redis://elsewhere:1234"
    assert Ardiq("redis://here").redis_url == "redis://here"
    monkeypatch.setenv("ARDIQ_REDIS_URL", " ")
    with pytest.raises(ValueError, match=r"\$ARDIQ_REDIS_URL must not be blank"):
        Ardiq()


def test_options_are_shown_and_cannot_be_set() -> None:
    app = Ardiq(
        "redis://h:1",
        "q",
        ["a", "b", "c"],
        default_priority="c",
        cron_poll_s=timedelta(seconds=2),
        concurrency=3,
        shutdown_grace_s=timedelta(minutes=1),
        connect_timeout_s=timedelta(milliseconds=250),
    )
    assert (app.default_priority, app.cron_poll_s, app.prefetch, app.sync_concurrency) == ("c", 2.0, 6, 3)
    assert (app.shutdown_grace_s, app.connect_timeout_s) == (60.0, 0.25)
    for name in {*_DEFAULTS, "tasks", "worker_id"} - {"burst"}:
        with pytest.raises(AttributeError):
            setattr(app, name, getattr(app, name))
    app.priorities.append("d")
    assert app.priorities == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        (["a", "default"], "default"),
        (["a", "b", "c"], "b"),
        (["a", "b"], "b"),
        (["a"], "a"),
        (["x", "y", "z", "w"], "z"),
    ],
)
def test_the_default_lane_is_default_or_the_middle(lanes: list[str], expected: str) -> None:
    assert Ardiq(priorities=lanes).default_priority == expected


def test_burst_can_be_set() -> None:
    app = Ardiq()
    app.burst = True
    assert app.burst is True
    with pytest.raises(TypeError, match="burst must be True or False, not int"):
        app.burst = 1  # type: ignore[assignment]


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"redis_url": ""}, ValueError, "redis_url must not be blank"),
    ({"redis_url": "  "}, ValueError, "redis_url must not be blank"),
    ({"redis_url": "localhost"}, ValueError, "has no scheme. Use, for example,"),
    ({"redis_url": "http://localhost"}, ValueError, "the scheme must be one of redis"),
    ({"redis_url": "redis://localhost:99999"}, ValueError, "the port must be"),
    ({"redis_url": "redis://localhost:port"}, ValueError, "the port must be"),
    ({"redis_url": b"redis://localhost"}, TypeError, "redis_url must be a str"),
    ({"redis_url": 6379}, TypeError, "redis_url must be a str"),
    ({"queue_name": ""}, ValueError, "queue_name must not be blank"),
    ({"queue_name": "a b"}, ValueError, "queue_name must be"),
    ({"queue_name": "{x}"}, ValueError, "queue_name must be"),
    ({"queue_name": "ü"}, ValueError, "queue_name must be"),
    ({"queue_name": "q" * 129}, ValueError, "at most 128 ASCII letters"),
    ({"queue_name": None}, TypeError, "queue_name must be a str, not None"),
    ({"priorities": []}, ValueError, "at least one lane"),
    ({"priorities": ["a", "a"]}, ValueError, "each lane once"),
    ({"priorities": ["a", " "]}, ValueError, "must not be blank"),
    ({"priorities": ["a", "b\n"]}, ValueError, "ASCII letters, digits or"),
    ({"priorities": ["a", 1]}, TypeError, "must be a str, not int"),
    ({"priorities": "high"}, TypeError, "priorities must be a list of lane names"),
    ({"priorities": {"a": 1}}, TypeError, "priorities must be a list"),
    ({"priorities": {"a"}}, TypeError, "priorities must be a list"),
    ({"priorities": 3}, TypeError, "priorities must be a list"),
    ({"default_priority": "nope"}, ValueError, "must be one of the priorities"),
    ({"default_priority": 1}, TypeError, "default_priority must be a str"),
    ({"cron_poll_s": 0}, ValueError, "more than zero"),
    ({"cron_poll_s": -1}, ValueError, "more than zero"),
    ({"cron_poll_s": math.nan}, ValueError, "finite"),
    ({"cron_poll_s": math.inf}, ValueError, "finite"),
    ({"cron_poll_s": "1"}, TypeError, "number of seconds or a timedelta, not str"),
    ({"cron_poll_s": True}, TypeError, "not bool"),
    ({"cron_poll_s": 10**400}, ValueError, "100 years"),
    ({"concurrency": 0}, ValueError, "at least 1"),
    ({"concurrency": -1}, ValueError, "at least 1"),
    ({"concurrency": 10**9}, ValueError, "at most"),
    ({"concurrency": "16"}, TypeError, "concurrency must be an int, not str"),
    ({"concurrency": 1.5}, TypeError, "must be an int, not float"),
    ({"concurrency": True}, TypeError, "must be an int, not bool"),
    ({"concurrency": None}, TypeError, "must be an int, not None"),
    ({"prefetch": 0}, ValueError, "at least 1"),
    ({"prefetch": 15}, ValueError, r"at least concurrency \(16\)"),
    ({"prefetch": "32"}, TypeError, "prefetch must be an int"),
    ({"idle_timeout_ms": 0}, ValueError, "at least 1"),
    ({"idle_timeout_ms": 1.0}, TypeError, "must be an int"),
    ({"result_ttl_ms": "0"}, TypeError, "must be an int"),
    ({"result_ttl_ms": HUNDRED_YEARS_MS + 1}, ValueError, "at most"),
    ({"burst": 1}, TypeError, "burst must be True or False"),
    ({"sync_concurrency": 0}, ValueError, "at least 1"),
    ({"sync_concurrency": False}, TypeError, "not bool"),
    ({"shutdown_grace_s": -0.1}, ValueError, "zero or more"),
    ({"shutdown_grace_s": None}, TypeError, "number of seconds"),
    ({"max_payload_bytes": 0}, ValueError, "at least 1"),
    ({"connect_timeout_s": 0}, ValueError, "more than zero"),
    ({"serializer": len}, TypeError, "both or neither"),
    ({"deserializer": len}, TypeError, "both or neither"),
    ({"serializer": 1, "deserializer": len}, TypeError, "must be callable"),
    ({"concurency": 3}, TypeError, "did you mean 'concurrency'"),
    ({"prioritys": ["a"]}, TypeError, "did you mean 'priorities'"),
    ({"zzzz": 1}, TypeError, "no option 'zzzz'; it accepts redis_url, queue_name, priorities,"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS, ids=str)
def test_a_bad_option_of_the_app_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Ardiq(**options)


@pytest.mark.parametrize(
    "options", [{"prefetch": 16}, {"shutdown_grace_s": 0}, {"result_ttl_ms": -1}, {"priorities": ("a", "b")}], ids=str
)
def test_a_bound_itself_is_accepted(options: dict[str, Any]) -> None:
    app = Ardiq(**options)
    for name, value in options.items():
        assert getattr(app, name) == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(
    "url", ["redis://:canary@[bad", "canary://u:canary@h", "redis://u:canary@h:99999", "redis://u:canary@"]
)
def test_no_error_about_a_url_shows_the_password(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        Ardiq(url)
    seen: BaseException | None = refused.value
    while seen is not None:
        assert "canary@" not in str(seen)
        assert ":canary" not in str(seen)
        seen = seen.__cause__ or seen.__context__


def test_repr_shows_no_password() -> None:
    app = Ardiq("redis://user:canary@h:1/0", "emails")
    assert "canary" not in repr(app)
    assert "emails" in repr(app)


BAD_CALL_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"task_id": 5}, InvalidIdError, "must be a str, not int"),
    ({"task_id": b"x"}, InvalidIdError, "must be a str"),
    ({"task_id": ""}, InvalidIdError, "1 to 256"),
    ({"task_id": "x" * 257}, InvalidIdError, "1 to 256"),
    ({"task_id": "a b"}, InvalidIdError, "printable"),
    ({"task_id": "a\n"}, InvalidIdError, "printable"),
    ({"task_id": "a\u00a0b"}, InvalidIdError, "printable"),
    ({"task_id": "\ud800"}, InvalidIdError, "printable"),
    ({"priority": "nope"}, ValueError, r"not one of the app's priorities \['low', 'default', 'high'\]"),
    ({"priority": ""}, ValueError, "not one of"),
    ({"priority": 1}, TypeError, "priority must be a str"),
    ({"delay_ms": -1}, ValueError, "delay_ms must be at least 0"),
    ({"delay_ms": HUNDRED_YEARS_MS + 1}, ValueError, "delay_ms must be at most"),
    ({"delay_ms": 2**80}, ValueError, "at most"),
    ({"delay_ms": 1.0}, TypeError, "delay_ms must be an int"),
    ({"delay_ms": "5"}, TypeError, "delay_ms must be an int"),
    ({"delay_ms": True}, TypeError, "not bool"),
    ({"delay_ms": None}, TypeError, "not None"),
    ({"schedule_ms": -1}, ValueError, "at least 0"),
    ({"schedule_ms": 2**63}, ValueError, "at most"),
    ({"schedule_ms": timedelta(1)}, TypeError, "must be an int"),
    ({"expire_ms": -5}, ValueError, "at least 0"),
    ({"expire_ms": "x"}, TypeError, "must be an int"),
    ({"expire_ms": HUNDRED_YEARS_MS + 1}, ValueError, "expire_ms must be at most"),
    ({"headers": {"a": 1}}, TypeError, "maps str to str"),
    ({"headers": {1: "a"}}, TypeError, "maps str to str"),
    ({"headers": [("a", "b")]}, TypeError, "dict that maps str to str, not list"),
    ({"headers": {"": "x"}}, ValueError, "must have a name"),
    ({"headers": {"a": "\ud800"}}, ValueError, "surrogates"),
    ({"headers": {"a": "ü" * 4_096}}, ValueError, "8193 bytes, more than the 8192 .* pass the data as an argument"),
    ({"unique": 1}, TypeError, "unique must be True or False"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_CALL_OPTIONS, ids=lambda value: str(value)[:60])
def test_a_bad_option_of_a_call_is_refused(
    app: Ardiq, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    @app.task
    def work() -> None: ...

    for task in (work, app.ref("elsewhere")):
        with pytest.raises(error, match=message):
            task.options(**options)


def test_a_bad_id_is_both_a_wrong_type_and_a_wrong_value() -> None:
    assert issubclass(InvalidIdError, ArdiqError)
    assert issubclass(InvalidIdError, ValueError)
    assert issubclass(InvalidIdError, TypeError)


BAD_TASK_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"name": ""}, ValueError, "1 to 256"),
    ({"name": "a b"}, ValueError, "printable"),
    ({"name": "n" * 257}, ValueError, "1 to 256"),
    ({"name": 3}, TypeError, "must be a str, not int"),
    ({"max_retries": -1}, ValueError, "at least 0"),
    ({"max_retries": 1.5}, TypeError, "must be an int"),
    ({"max_retries": 2**31}, ValueError, "max_retries must be at most"),
    ({"backoff_ms": HUNDRED_YEARS_MS + 1}, ValueError, "backoff_ms must be at most"),
    ({"timeout": 1e300}, ValueError, "timeout must be at most 100 years"),
    ({"expire_ms": 2**63}, ValueError, "expire_ms must be at most"),
    ({"result_ttl_ms": -HUNDRED_YEARS_MS - 1}, ValueError, "result_ttl_ms must be at least"),
    ({"backoff_ms": -1}, ValueError, "at least 0"),
    ({"backoff_ms": "1"}, TypeError, "must be an int"),
    ({"timeout": 0}, ValueError, "more than zero"),
    ({"timeout": -1}, ValueError, "more than zero"),
    ({"timeout": math.nan}, ValueError, "finite"),
    ({"timeout": "10"}, TypeError, "number of seconds or a timedelta"),
    ({"timeout": timedelta(0)}, ValueError, "more than zero"),
    ({"priority": "nope"}, ValueError, "not one of the app's priorities"),
    ({"priority": 0}, TypeError, "priority must be a str"),
    ({"expire_ms": -1}, ValueError, "at least 0"),
    ({"result_ttl_ms": 1.0}, TypeError, "must be an int"),
    ({"unique": "yes"}, TypeError, "True or False"),
    ({"silent": None}, TypeError, "True or False"),
    ({"max_retry": 1}, TypeError, "did you mean 'max_retries'"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_TASK_OPTIONS, ids=lambda value: str(value)[:60])
def test_a_bad_option_of_a_task_is_refused(
    app: Ardiq, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    def work() -> None: ...

    with pytest.raises(error, match=message):
        app.task(**options)(work)
    with pytest.raises(error, match=message):
        app.cron(every=1, **options)(work)
    assert app.tasks == []


LOOKS: list[Callable[[Ardiq, Any], object]] = [
    lambda app, job: app.result_sync(job),
    lambda app, job: app.status_sync(job),
    lambda app, job: app.info_sync(job),
    lambda app, job: asyncio.run(app.result(job)),
    lambda app, job: asyncio.run(app.status(job)),
    lambda app, job: asyncio.run(app.info(job)),
]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("job", ["", "a b", "x" * 257, None, 3], ids=repr)
def test_looking_up_a_bad_id_is_refused(app: Ardiq, look: Callable[[Ardiq, Any], object], job: Any) -> None:
    with pytest.raises(InvalidIdError):
        look(app, job)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (math.nan, ValueError), ("5", TypeError), (True, TypeError), (timedelta(-1), ValueError)],
    ids=repr,
)
def test_a_bad_timeout_is_refused(app: Ardiq, timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout"):
        app.result_sync("job", timeout)
    with pytest.raises(error, match="timeout"):
        asyncio.run(app.result("job", timeout))


async def test_a_bad_state_or_limit_is_refused(app: Ardiq) -> None:
    with pytest.raises(ValueError, match="state must be"):
        await app.jobs("done")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(ValueError, match="limit must be at least 1"):
        await app.jobs("queued", 0)


def test_arguments_over_the_limit_are_refused(app: Ardiq) -> None:
    @app.task
    def work(data: bytes) -> None: ...

    with pytest.raises(PayloadTooLargeError, match="max_payload_bytes; store them elsewhere") as refused:
        work.enqueue(b"x" * 2_000_000)
    assert isinstance(refused.value, ValueError)
    with pytest.raises(PayloadTooLargeError):
        work.enqueue_sync(b"x" * 2_000_000)
    with pytest.raises(PayloadTooLargeError):
        work.prepare(b"x" * 2_000_000)
    work.prepare(b"x" * 1_000_000)


def test_the_limit_of_the_arguments_is_the_app_s_own() -> None:
    app = Ardiq("redis://127.0.0.1:1", max_payload_bytes=100)
    room = 100 - len(submission(app.ref("work").prepare("")).body)
    fits = submission(app.ref("work").prepare("x" * 31)).body
    assert len(fits) == 31 + 100 - room
    exact = room - 1  # above 31 characters, the length of a string takes one more byte
    assert len(submission(app.ref("work").prepare("x" * exact)).body) == 100
    with pytest.raises(PayloadTooLargeError, match="take 101 bytes, more than the 100"):
        app.ref("work").prepare("x" * (exact + 1))


@pytest.mark.parametrize("name", ["", "a b", None, 3], ids=repr)
def test_a_bad_name_is_refused_by_ref_and_send(app: Ardiq, name: Any) -> None:
    for use in (app.ref, app.send):
        with pytest.raises((ValueError, TypeError), match="a task's name"):
            use(name)


def test_enqueue_many_takes_prepared_calls_of_its_own_app_only(app: Ardiq) -> None:
    @app.task
    def work() -> None: ...

    other = Ardiq("redis://127.0.0.1:1")
    with pytest.raises(ValueError, match="prepared with another app"):
        other.enqueue_many_sync([work.prepare()])
    with pytest.raises(TypeError, match=r"task\.prepare\(\.\.\.\) returns, not SyncTask"):
        app.enqueue_many_sync([work])  # type: ignore[arg-type]
    assert app.enqueue_many_sync([]) == []


class TestControl:
    """The exceptions that a task raises to end its attempt."""

    def test_retry_keeps_what_it_was_given(self) -> None:
        assert (str(Retry("later", delay_ms=0)), Retry("later", delay_ms=0).delay_ms) == ("later", 0)
        assert Retry().delay_ms is None
        assert repr(Reject("no")) == "Reject('no')"

    @pytest.mark.parametrize(("delay", "error"), [(-1, ValueError), ("1", TypeError), (1.5, TypeError)])
    def test_retry_refuses_a_bad_delay(self, delay: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="delay_ms"):
            Retry(delay_ms=delay)

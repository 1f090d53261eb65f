"""The options of an app: what each must be, its default, and a read-only property for it."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Never, TypedDict, TypeVar, overload

import ardiq_core
from ardiq.checks import LONGEST_MS, flag, kind_of, lanes, only_known, place, seconds, whole

if TYPE_CHECKING:
    from datetime import timedelta

T = TypeVar("T")

DEFAULT_URL = "redis://localhost:6379"
URL_VARIABLE = "ARDIQ_REDIS_URL"
_MOST = 1_000_000


class CoreOptions(TypedDict, total=False):
    """The further options of `Ardiq`; times in ms or seconds as their names say, seconds also as a timedelta."""

    default_priority: str | None
    concurrency: int
    prefetch: int | None
    idle_timeout_ms: int
    result_ttl_ms: int
    burst: bool
    sync_concurrency: int | None
    shutdown_grace_s: float | timedelta
    max_payload_bytes: int
    connect_timeout_s: float | timedelta
    allow_eviction: bool


class RunOptions(TypedDict, total=False):
    """Arguments of `app.run(...)` that override the app's options; None keeps the app's value."""

    concurrency: int | None
    prefetch: int | None
    sync_concurrency: int | None
    shutdown_grace_s: float | timedelta | None
    burst: bool | None


class Option(Generic[T]):
    """A read-only property of the app that shows one option."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, app: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, app: Options, owner: type) -> T: ...
    def __get__(self, app: Options | None, owner: type) -> Option[T] | T:
        if app is None:
            return self
        value: T = app._options[self._name]
        return value

    def __set__(self, app: Options, value: Never) -> None:
        raise AttributeError(f"{self._name} is set when the app is made and cannot be changed")


class Options:
    """The checked options of an app, each as a read-only property."""

    redis_url = Option[str]("Where Redis is. The password, if any, is in it: do not log it.")
    queue_name = Option[str]("The queue: the namespace of all its keys in Redis.")
    default_priority = Option[str]("The lane of a task that names none.")
    serializer = Option[Callable[[Any], bytes] | None]("The app's own serializer, None for msgpack.")
    deserializer = Option[Callable[[bytes], Any] | None]("The app's own deserializer, None for msgpack.")
    cron_poll_s = Option[float]("Upper bound between looks at the schedule, in seconds.")
    concurrency = Option[int]("How many tasks a worker runs at once.")
    prefetch = Option[int]("How many jobs a worker holds, running ones included.")
    idle_timeout_ms = Option[int]("The lease: a job that is not renewed for this long may be taken over.")
    result_ttl_ms = Option[int]("How long results are kept: 0 not at all, negative for ever.")
    sync_concurrency = Option[int]("How many threads run `def` tasks.")
    shutdown_grace_s = Option[float]("How long a stopping worker lets tasks finish, in seconds.")
    max_payload_bytes = Option[int]("The largest encoded arguments that are sent.")
    connect_timeout_s = Option[float]("How long a call may try to reach Redis, in seconds.")
    allow_eviction = Option[bool](
        "Whether to work with a Redis that evicts keys, and so loses jobs, when its memory is full."
    )

    def __init__(self, given: Mapping[str, object]) -> None:
        self._options = check_options(given)

    @property
    def priorities(self) -> list[str]:
        """The lanes, lowest first: a copy, the app's own list stays as it was checked."""
        return list(self._options["priorities"])


def check_options(given: Mapping[str, object]) -> dict[str, Any]:
    """All options with their defaults filled in; raises for one that is unknown, of a wrong type or out of bounds."""
    only_known("Ardiq()", given, _DEFAULTS)
    chosen = {**_DEFAULTS, **given}
    url = check_url(chosen["redis_url"])
    ladder = lanes(chosen["priorities"])
    concurrency = whole("concurrency", chosen["concurrency"], 1, _MOST)
    prefetch = 2 * concurrency if chosen["prefetch"] is None else whole("prefetch", chosen["prefetch"], 1, 2 * _MOST)
    if prefetch < concurrency:
        raise ValueError(f"prefetch counts running tasks too: it must be at least concurrency ({concurrency})")
    threads = chosen["sync_concurrency"]
    return {
        "redis_url": url,
        "queue_name": place("queue_name", chosen["queue_name"]),
        "priorities": ladder,
        "default_priority": _default_lane(chosen["default_priority"], ladder),
        "serializer": chosen["serializer"],
        "deserializer": chosen["deserializer"],
        "cron_poll_s": seconds("cron_poll_s", chosen["cron_poll_s"]),
        "concurrency": concurrency,
        "prefetch": prefetch,
        "idle_timeout_ms": whole("idle_timeout_ms", chosen["idle_timeout_ms"], 1, LONGEST_MS),
        "result_ttl_ms": whole("result_ttl_ms", chosen["result_ttl_ms"], -LONGEST_MS, LONGEST_MS),
        "burst": flag("burst", chosen["burst"]),
        "sync_concurrency": concurrency if threads is None else whole("sync_concurrency", threads, 1, _MOST),
        "shutdown_grace_s": seconds("shutdown_grace_s", chosen["shutdown_grace_s"], zero=True),
        "max_payload_bytes": whole("max_payload_bytes", chosen["max_payload_bytes"], 1, 512 * 1024 * 1024),
        "connect_timeout_s": seconds("connect_timeout_s", chosen["connect_timeout_s"]),
        "allow_eviction": flag("allow_eviction", chosen["allow_eviction"]),
    }


_DEFAULTS: dict[str, object] = {
    "redis_url": None,
    "queue_name": "default",
    "priorities": None,
    "default_priority": None,
    "serializer": None,
    "deserializer": None,
    "cron_poll_s": 1.0,
    "concurrency": 16,
    "prefetch": None,
    "idle_timeout_ms": 60_000,
    "result_ttl_ms": 300_000,
    "burst": False,
    "sync_concurrency": None,
    "shutdown_grace_s": 30.0,
    "max_payload_bytes": 1024 * 1024,
    "connect_timeout_s": 5.0,
    "allow_eviction": False,
}


def check_url(url: object) -> str:
    """The URL to use; None means $ARDIQ_REDIS_URL or a local Redis. No error shows any part of it."""
    label = "redis_url"
    if url is None:
        url = os.environ.get(URL_VARIABLE, DEFAULT_URL)
        label = f"${URL_VARIABLE}"
    if not isinstance(url, str):
        raise TypeError(f"redis_url must be a str such as {DEFAULT_URL!r}, not {kind_of(url)}")
    if not url.strip():
        raise ValueError(f"{label} must not be blank; write it like {DEFAULT_URL!r}, or leave it out for that one")
    ardiq_core.check_url(url)
    return url


def _default_lane(given: object, ladder: tuple[str, ...]) -> str:
    if given is None:
        return "default" if "default" in ladder else ladder[len(ladder) // 2]
    lane = place("default_priority", given)
    if lane not in ladder:
        raise ValueError(f"default_priority {lane!r} must be one of the priorities {list(ladder)!r}")
    return lane

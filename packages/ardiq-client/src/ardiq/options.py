"""The options of an app: their defaults, their checks, and the read-only properties that show
them.
"""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Never, TypedDict, TypeVar, overload

import ardiq_core
from ardiq.checks import (
    LONGEST_MS,
    check_bool,
    check_int,
    check_known,
    check_lanes,
    check_name,
    check_seconds,
    did_you_mean,
    kind_of,
)

if TYPE_CHECKING:
    from datetime import timedelta

    from ardiq.app import Ardiq

T = TypeVar("T")

DEFAULT_URL = "redis://localhost:6379"
URL_VARIABLE = "ARDIQ_REDIS_URL"
NO_SERVER_NAMED = "Neither is set: for development, `ardiq dev MODULE:APP` starts a server for this directory"
_MOST = 1_000_000


class CoreOptions(TypedDict, total=False):
    """Further options of `Ardiq`.

    Attributes:
        default_priority: The lane of tasks that do not set one. Defaults to the lane `default`, or
            to the middle one if there is no such lane.
        concurrency: How many tasks a worker runs at the same time; defaults to 16.
        prefetch: How many jobs a worker holds, including the running ones; defaults to twice
            `concurrency`.
        idle_timeout_ms: The lease, in milliseconds; defaults to 60,000. If a worker does not renew
            its lease for this long, others take over its jobs.
        result_ttl_ms: How long results are kept, in milliseconds; defaults to 300,000. With 0,
            results are not stored; with a negative number, they never expire.
        burst: Whether the worker returns when no job is waiting, running or scheduled; defaults to
            False.
        sync_concurrency: How many threads run `def` tasks; defaults to `concurrency`.
        shutdown_grace_s: How long a stopping worker lets tasks finish, in seconds or as a
            timedelta; defaults to 30.
        max_payload_bytes: The maximum size of the encoded arguments of a job; defaults to
            1,048,576.
        connect_timeout_s: How long a call may try to reach Redis, in seconds or as a timedelta;
            defaults to 5.
        allow_eviction: Whether to accept a Redis that evicts keys, and so loses jobs, when its
            memory is full; defaults to False.
    """

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
    """A read-only property of the app that returns one option."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, app: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, app: Ardiq, owner: type) -> T: ...
    def __get__(self, app: Ardiq | None, owner: type) -> Option[T] | T:
        if app is None:
            return self
        value: T = app._options[self._name]
        return value

    def __set__(self, app: Ardiq, value: Never) -> None:
        raise AttributeError(f"{self._name} is set when the app is created and cannot be changed")


class RunSettings(NamedTuple):
    """The options of one run of a worker."""

    concurrency: int
    prefetch: int
    sync_concurrency: int
    shutdown_grace_s: float
    burst: bool


def run_settings(app: Ardiq, overrides: RunOptions) -> RunSettings:
    """Return the options of a run: those of `app`, unless `overrides` replace them.

    A new concurrency also changes the options that the app derives from its concurrency. Raises
    TypeError or ValueError for a value that is not valid.
    """
    given = dict[str, Any](overrides)
    concurrency, prefetch, threads, grace_s, burst = map(given.get, RunOptions.__annotations__)
    at_once = app.concurrency if concurrency is None else check_int("concurrency", concurrency, 1, _MOST)
    if prefetch is None and app.prefetch != 2 * app.concurrency:
        prefetch = max(app.prefetch, at_once)
    if threads is None and app.sync_concurrency != app.concurrency:
        threads = app.sync_concurrency
    return RunSettings(
        concurrency=at_once,
        prefetch=_prefetch(prefetch, at_once),
        sync_concurrency=_threads(threads, at_once),
        shutdown_grace_s=app.shutdown_grace_s
        if grace_s is None
        else check_seconds("shutdown_grace_s", grace_s, zero=True),
        burst=app.burst if burst is None else check_bool("burst", burst),
    )


def _prefetch(given: object, concurrency: int) -> int:
    prefetch = 2 * concurrency if given is None else check_int("prefetch", given, 1, 2 * _MOST)
    if prefetch < concurrency:
        raise ValueError(f"prefetch counts running tasks too: it must be at least concurrency ({concurrency})")
    return prefetch


def _threads(given: object, concurrency: int) -> int:
    return concurrency if given is None else check_int("sync_concurrency", given, 1, _MOST)


def check_options(given: Mapping[str, object]) -> dict[str, Any]:
    """Return all options, with defaults filled in.

    Raises TypeError for an unknown option or a wrong type, and ValueError for a value out of range.
    """
    check_known("Ardiq()", given, _DEFAULTS)
    chosen = {**_DEFAULTS, **given}
    url = check_url(chosen["redis_url"])
    lanes = check_lanes(chosen["priorities"])
    concurrency = check_int("concurrency", chosen["concurrency"], 1, _MOST)
    return {
        "redis_url": url,
        "queue_name": check_name("queue_name", chosen["queue_name"]),
        "priorities": lanes,
        "default_priority": _default_lane(chosen["default_priority"], lanes),
        "serializer": chosen["serializer"],
        "deserializer": chosen["deserializer"],
        "cron_poll_s": check_seconds("cron_poll_s", chosen["cron_poll_s"]),
        "concurrency": concurrency,
        "prefetch": _prefetch(chosen["prefetch"], concurrency),
        "idle_timeout_ms": check_int("idle_timeout_ms", chosen["idle_timeout_ms"], 1, LONGEST_MS),
        "result_ttl_ms": check_int("result_ttl_ms", chosen["result_ttl_ms"], -LONGEST_MS, LONGEST_MS),
        "burst": check_bool("burst", chosen["burst"]),
        "sync_concurrency": _threads(chosen["sync_concurrency"], concurrency),
        "shutdown_grace_s": check_seconds("shutdown_grace_s", chosen["shutdown_grace_s"], zero=True),
        "max_payload_bytes": check_int("max_payload_bytes", chosen["max_payload_bytes"], 1, 512 * 1024 * 1024),
        "connect_timeout_s": check_seconds("connect_timeout_s", chosen["connect_timeout_s"]),
        "allow_eviction": check_bool("allow_eviction", chosen["allow_eviction"]),
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
    """Return the URL to use.

    None means $ARDIQ_REDIS_URL or, if that is unset or empty, a local Redis.

    No error message shows any part of the URL.
    """
    label = "redis_url"
    if url is None:
        url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
        label = f"${URL_VARIABLE}"
    if not isinstance(url, str):
        raise TypeError(f"redis_url must be a str such as {DEFAULT_URL!r}, not {kind_of(url)}")
    if not url.strip():
        raise ValueError(f"{label} must not be blank; write it like {DEFAULT_URL!r}, or leave it out to use that one")
    ardiq_core.check_url(url)
    return url


def names_server(redis_url: object) -> bool:
    """Return whether an argument or the environment names the server.

    If not, a development server may be used.
    """
    return redis_url is not None or bool(os.environ.get(URL_VARIABLE))


def development_locator(redis_url: object, options: dict[str, Any]) -> Callable[[], str] | None:
    """Return the function that an app calls before it connects, or None if its server is named.

    The first call of that function looks for a development server and sets the URL in `options`,
    unless the environment variable has been set since the app was created. Each call returns what
    to add to the error if the server cannot be reached.
    """
    if names_server(redis_url):
        return None
    lock = threading.Lock()
    is_settled = False
    hint = ""

    def locate() -> str:
        nonlocal is_settled, hint
        report = None
        with lock:  # other threads wait until the URL is known
            if not is_settled:
                if not names_server(None):
                    report = _use_development_server(options)
                    hint = NO_SERVER_NAMED if report is None else ""
                is_settled = True
        if report is not None:
            report()  # without the lock: a log handler may itself use the app
        return hint

    return locate


def _use_development_server(options: dict[str, Any]) -> Callable[[], None] | None:
    """Set the URL of a development server, if one runs. Return a function that logs it."""
    # Imported here because an app that names its server does not need it.
    from ardiq.development import find_server

    search = find_server()
    warning, server = search.warning, search.server
    if server is None and warning is None:
        return None
    from logging import getLogger

    from ardiq.printable import printable

    log = getLogger("ardiq.client")
    if server is None:
        return lambda: log.warning("%s", printable(warning or ""))
    options["redis_url"] = server.url
    facts = (printable(server.project), server.url, server.pid)
    return lambda: log.info("using the development server of %s, %s (ardiq dev, pid %d)", *facts)


def lane_index(lanes: Mapping[str, int], lane: object) -> int:
    """Return the index of a lane.

    Raises TypeError unless it is a str, and ValueError if the app has no such lane.
    """
    if not isinstance(lane, str):
        raise TypeError(f"priority must be a str, not {kind_of(lane)}")
    index = lanes.get(lane)
    if index is None:
        raise ValueError(
            f"priority {lane!r} is not one of the app's priorities {[*lanes]!r}{did_you_mean(lane, lanes)}"
        )
    return index


def shown(url: str) -> str:
    """Return `url` without user, password and parameters, for messages."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def _default_lane(given: object, lanes: tuple[str, ...]) -> str:
    if given is None:
        return "default" if "default" in lanes else lanes[len(lanes) // 2]
    lane = check_name("default_priority", given)
    if lane not in lanes:
        raise ValueError(f"default_priority {lane!r} must be one of the priorities {list(lanes)!r}")
    return lane

"""The options of one run: the app's, unless `app.run(…)` says otherwise."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from ardiq.checks import flag, seconds, whole

if TYPE_CHECKING:
    from ardiq.app import Ardiq

_MOST = 1_000_000


class Settings(NamedTuple):
    """How many jobs at once, in how many threads, and how long a stop may take."""

    concurrency: int
    prefetch: int
    sync_concurrency: int
    shutdown_grace_s: float
    burst: bool


def settings(
    app: Ardiq,
    *,
    concurrency: int | None = None,
    prefetch: int | None = None,
    sync_concurrency: int | None = None,
    shutdown_grace_s: float | timedelta | None = None,
    burst: bool | None = None,
) -> Settings:
    """Options of `app` with the given ones in their place.

    Where the app derives an option from its concurrency, a new concurrency gives a new derived value. Raises TypeError
    or ValueError for what cannot be.
    """
    at_once = app.concurrency if concurrency is None else whole("concurrency", concurrency, 1, _MOST)
    if prefetch is not None:
        held = whole("prefetch", prefetch, 1, 2 * _MOST)
        if held < at_once:
            raise ValueError(f"prefetch counts running tasks too: it must be at least concurrency ({at_once})")
    else:
        held = 2 * at_once if app.prefetch == 2 * app.concurrency else max(app.prefetch, at_once)
    if sync_concurrency is not None:
        threads = whole("sync_concurrency", sync_concurrency, 1, _MOST)
    else:
        threads = at_once if app.sync_concurrency == app.concurrency else app.sync_concurrency
    grace_s = (
        app.shutdown_grace_s if shutdown_grace_s is None else seconds("shutdown_grace_s", shutdown_grace_s, zero=True)
    )
    return Settings(at_once, held, threads, grace_s, app.burst if burst is None else flag("burst", burst))

"""The options of one run: those of the app, those passed to `run`, and those derived from
others.
"""

from datetime import timedelta
from typing import Any

import pytest

from ardiq import Ardiq
from ardiq.options import RunSettings, run_settings


def chosen(app_options: dict[str, Any], overrides: Any) -> RunSettings:
    return run_settings(Ardiq("redis://127.0.0.1:1", **app_options), overrides)


def test_the_app_s_options_are_those_of_the_run() -> None:
    own: dict[str, Any] = {
        "concurrency": 3,
        "prefetch": 5,
        "sync_concurrency": 2,
        "shutdown_grace_s": 7.5,
        "burst": True,
    }
    assert chosen(own, {}) == RunSettings(3, 5, 2, 7.5, True)
    assert chosen({}, {}) == RunSettings(16, 32, 16, 30.0, False)


def test_what_is_given_for_the_run_wins() -> None:
    own: dict[str, Any] = {"concurrency": 3, "prefetch": 5, "sync_concurrency": 2, "burst": True}
    passed: dict[str, Any] = {
        "concurrency": 4,
        "prefetch": 4,
        "sync_concurrency": 9,
        "shutdown_grace_s": timedelta(seconds=1),
        "burst": False,
    }
    assert chosen(own, passed) == RunSettings(4, 4, 9, 1.0, False)
    assert chosen(own, {"shutdown_grace_s": 0}).shutdown_grace_s == 0


@pytest.mark.parametrize(
    ("own", "prefetch", "threads"),
    [
        ({}, 20, 10),  # both follow the concurrency
        ({"prefetch": 16}, 16, 10),
        ({"concurrency": 4, "prefetch": 4}, 10, 10),  # a worker must hold at least what it runs
        ({"sync_concurrency": 5}, 20, 5),
    ],
)
def test_a_new_concurrency_takes_along_what_follows_from_it(own: dict[str, Any], prefetch: int, threads: int) -> None:
    made = chosen(own, {"concurrency": 10})
    assert (made.concurrency, made.prefetch, made.sync_concurrency) == (10, prefetch, threads)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"concurrency": 0}, ValueError, "concurrency must be at least 1"),
        ({"prefetch": 15}, ValueError, r"at least concurrency \(16\)"),
        ({"prefetch": "20"}, TypeError, "prefetch must be an int"),
        ({"sync_concurrency": 0}, ValueError, "sync_concurrency must be at least 1"),
        ({"shutdown_grace_s": -1}, ValueError, "shutdown_grace_s must be zero or more"),
        ({"burst": 1}, TypeError, "burst must be True or False"),
    ],
    ids=str,
)
def test_a_bad_option_of_a_run_is_refused(overrides: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        chosen({}, overrides)

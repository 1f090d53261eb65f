"""A misspelled option or word is refused, and the error suggests the closest valid one."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from ardiq import Ardiq, Retry
from ardiq.dispatch import CALL_OPTIONS, Dispatchable
from ardiq.options import RunOptions, RunSettings

APP = Ardiq("redis://127.0.0.1:1", priorities=["low", "default", "high"])


@APP.task
async def work() -> None: ...


@APP.task
async def send(text: str) -> None: ...


CALLS: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (Ardiq, {"concurency": 3}, "Ardiq() has no option 'concurency'; did you mean 'concurrency'?"),
    (APP.task, {"max_retry": 3}, "@app.task() has no option 'max_retry'; did you mean 'max_retries'?"),
    (APP.cron, {"every": 1, "times": 3}, "@app.cron() has no option 'times'; did you mean 'timeout'?"),
    (APP.run, {"concurency": 3}, "app.run() has no option 'concurency'; did you mean 'concurrency'?"),
    (APP.run, {"grace": 3}, "app.run() has no option 'grace'; did you mean 'shutdown_grace_s'?"),
    (work.options, {"delay": 3}, "task.options() has no option 'delay'; did you mean 'delay_ms' (milliseconds)?"),
    (APP.ref("other").options, {"id": "x"}, "task.options() has no option 'id'; did you mean 'task_id'?"),
    (work.options, {"eta": 3}, "task.options() has no option 'eta'; did you mean 'schedule_ms' (milliseconds)?"),
    (work.options, {"crontab": "@daily"}, "task.options() has no option 'crontab'; did you mean 'schedule'?"),
    (APP.cron, {"every": 1, "timezone": "UTC"}, "@app.cron() has no option 'timezone'; did you mean 'tz'?"),
    (
        send.enqueue,
        {"text": "x", "every": 5},
        "the task 'send' has no argument 'every'; options go to options(), as in task.options(every=...).enqueue(...)",
    ),
    (Ardiq, {"queue": "q"}, "Ardiq() has no option 'queue'; did you mean 'queue_name'?"),
    (APP.task, {"timeout_ms": 3}, "@app.task() has no option 'timeout_ms'; did you mean 'timeout' (seconds)?"),
    (APP.task, {"ttl": 3}, "@app.task() has no option 'ttl'; did you mean 'result_ttl_ms' (milliseconds)?"),
    (Retry, {"delay": 3}, "Retry() has no option 'delay'; did you mean 'delay_ms' (milliseconds)?"),
    (
        APP.run,
        {"zzzzz": 3},
        "app.run() has no option 'zzzzz'; it accepts concurrency, prefetch, sync_concurrency, shutdown_grace_s, burst",
    ),
    (
        send.enqueue,
        {"text": "x", "delay_ms": 3},
        "the task 'send' has no argument 'delay_ms'; "
        "options go to options(), as in task.options(delay_ms=...).enqueue(...)",
    ),
    (
        send.enqueue_sync,
        {"text": "x", "delay": 3},
        "the task 'send' has no argument 'delay'; did you mean 'delay_ms' (milliseconds)? "
        "Options go to options(), as in task.options(...).enqueue(...)",
    ),
    (send.prepare, {"txt": "x"}, "the task 'send' has no argument 'txt'; did you mean 'text'?"),
    (
        send.options(delay_ms=1).enqueue,
        {"text": "x", "unique": True},
        "the task 'send' has no argument 'unique'; "
        "options go to options(), as in task.options(unique=...).enqueue(...)",
    ),
    (send.enqueue, {"text": "x", "zzzzz": 1}, "the task 'send' has no argument 'zzzzz'"),
]


@pytest.mark.parametrize(("call", "options", "message"), CALLS, ids=[message for _, _, message in CALLS])
def test_an_unknown_option_names_the_nearest_one(
    call: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError) as refused:
        call(**options)
    assert str(refused.value) == message


async def test_an_unknown_state_names_the_nearest_one() -> None:
    state: Any = "ded"
    with pytest.raises(ValueError, match="must be queued, scheduled, running or dead, not 'ded'; did you mean 'dead'"):
        await APP.jobs(state)
    state = None
    with pytest.raises(TypeError, match="state must be a str, not None"):
        await APP.jobs(state)


def test_an_unknown_lane_names_the_nearest_one() -> None:
    for use in (lambda: work.options(priority="hihg"), lambda: APP.task(priority="hihg")(lambda: None)):
        with pytest.raises(ValueError, match=r"not one of the app's priorities .*; did you mean 'high'\?"):
            use()


def test_the_lists_of_options_are_those_of_the_functions() -> None:
    parameters = inspect.signature(Dispatchable.options).parameters
    assert tuple(parameters) == ("self", *CALL_OPTIONS, "more")
    assert tuple(RunOptions.__annotations__) == RunSettings._fields


class Shop(Ardiq):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.currency = "EUR"


def test_a_misspelled_attribute_of_an_app_is_refused_with_the_nearest_one() -> None:
    app: Any = Ardiq("redis://127.0.0.1:1")
    with pytest.raises(AttributeError) as refused:
        app.bursty = True
    assert str(refused.value) == "an app has no attribute 'bursty'; did you mean 'burst'?"
    app.burst = True
    app.database = "any other name is the application's own"
    assert app.burst


def test_a_subclass_may_have_further_attributes() -> None:
    shop: Any = Shop("redis://127.0.0.1:1")
    shop.bursts = 3
    assert (shop.currency, shop.bursts) == ("EUR", 3)

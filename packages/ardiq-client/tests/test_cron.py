"""Which schedules can be registered; the worker computes their times."""

import contextlib
import math
import zoneinfo
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardiq import Ardiq
from ardiq.cron import Timing, check_zone
from ardiq.expression import parts

GOOD = [
    "* * * * *",
    " */5 * * * * ",
    "0 0 1 1 *",
    "0,15,30-45/5 9-17 * * mon-fri",
    "0 0 * jan,feb-apr sun",
    "0 0 * * 7",
    "0 0 * * 5-7",
    "0 0 * * fri-mon",
    "0 22-2 * * *",
    "0 0 l * *",
    "0 0 L * ?",
    "0 0 ? * MON",
    "0 0 15w * *",
    "0 0 20-l * *",
    "0 0 * * l5",
    "0 0 * * 5#2",
    "0 0 * * mon-fri#1",
    "0 0 * * sat#1,sun#2",
    "10/20 * * * *",
    "*/90 * * * *",
    "0 0 29 2 *",
    "0 0 31 2 mon",
    "*/10 * * * * *",
    "@daily",
    "@Hourly",
]

BAD = [
    "",
    " ",
    "*",
    "* * * *",
    "* * * * * * *",
    "60 * * * *",
    "-1 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * 32 * *",
    "* * * 0 *",
    "* * * 13 *",
    "* * * * 8",
    "60 * * * * *",
    "a * * * *",
    "1.5 * * * *",
    "*/0 * * * *",
    "*/x * * * *",
    "*/ * * * *",
    "1- * * * *",
    "1-2-3 * * * *",
    "1,,2 * * * *",
    "0-60 * * * *",
    "? * * * *",
    "jan * * * *",
    "* * * mon *",
    "* * * * january",
    "* * * * 5#6",
    "* * * * 5#0",
    "* * * * 8#1",
    "* * * * l8",
    "* * * * 1,5#2",
    "* * 1w,2 * *",
    "* * 32w * *",
    "* * * l *",
    "0 0 30 2 *",
    "0 0 31 4,6,9,11 *",
    "0 0 30 2 *,thu",
    "0 0 31 2 0-6",
    "0 0 30w 2 *",
    "@reboot",
    "* * * * ٣",
    "\u00a0* * * * *",
    "every minute",
    "9" * 10_000 + " * * * *",
]


@pytest.mark.parametrize("spec", GOOD)
def test_an_expression_is_accepted(spec: str) -> None:
    parts(spec)


@pytest.mark.parametrize("spec", BAD, ids=lambda spec: repr(spec)[:40])
def test_a_bad_expression_is_refused_at_registration(spec: str) -> None:
    app = Ardiq()
    with pytest.raises(ValueError, match="cron expression"):
        app.cron(spec)
    assert app._schedules == {}


field = st.one_of(
    st.sampled_from(
        ["*", "?", "l", "*/2", "mon", "jan", "1-5", "5-1", "3/2", "l5", "1#2", "15w", "7", "0", "59", "60"]
    ),
    st.from_regex(r"[0-9]{1,2}(-[0-9]{1,2})?(/[0-9]{1,2})?(,[0-9a-z]{1,3})?", fullmatch=True),
)


@settings(deadline=None)
@given(st.lists(field, min_size=5, max_size=6).map(" ".join))
def test_what_is_accepted_is_what_the_worker_can_use(spec: str) -> None:
    croniter = pytest.importorskip("croniter").croniter
    with contextlib.suppress(ValueError):
        for part in parts(spec):
            assert croniter.is_valid(part, second_at_beginning=True), "accepted, but the worker cannot use it"


def test_a_schedule_is_registered_along_with_its_task() -> None:
    app = Ardiq(priorities=["low", "default"])

    @app.cron(" */5 * * * * ", priority="low", max_retries=1)
    async def refresh() -> None: ...

    @app.cron(every=timedelta(minutes=1), name="clean.up")
    def clean(older_than: int = 3) -> None: ...

    assert app.tasks == ["refresh", "clean.up"]
    assert (refresh.priority, refresh.max_retries, refresh.is_async) == ("low", 1, True)
    first, second = app._schedules["refresh"], app._schedules["clean.up"]
    assert (first.name, first.timing, first.task) == ("refresh", Timing("*/5 * * * *", None), refresh)
    assert (second.name, second.timing, second.task) == ("clean.up", Timing(None, 60_000), clean)


@pytest.mark.parametrize(("every", "expected"), [(0.2, 200), (1, 1000), (timedelta(milliseconds=1), 1), (1 / 3, 333)])
def test_an_interval_is_seconds_or_a_timedelta(every: Any, expected: int) -> None:
    app = Ardiq()
    app.cron(every=every)(lambda: None)
    assert [schedule.timing.every_ms for schedule in app._schedules.values()] == [expected]


@pytest.mark.parametrize("arguments", [{}, {"spec": "* * * * *", "every": 1}], ids=str)
def test_exactly_one_of_expression_and_interval(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="exactly one"):
        Ardiq().cron(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": 0}, ValueError, "more than zero"),
        ({"every": -1}, ValueError, "more than zero"),
        ({"every": 0.0001}, ValueError, "at least a millisecond"),
        ({"every": math.nan}, ValueError, "finite"),
        ({"every": math.inf}, ValueError, "finite"),
        ({"every": "5"}, TypeError, "number of seconds or a timedelta"),
        ({"every": True}, TypeError, "not bool"),
        ({"spec": 5}, TypeError, "pass every="),
        ({"spec": b"* * * * *"}, TypeError, "must be a str, not bytes"),
    ],
    ids=str,
)
def test_bad_timing_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Ardiq().cron(**arguments)


def test_a_function_that_needs_arguments_cannot_be_scheduled() -> None:
    app = Ardiq()

    def positional(a: int, b: int = 1) -> None: ...
    def keyword(*, a: int, b: int = 1) -> None: ...

    for fn in (positional, keyword):
        with pytest.raises(TypeError, match="a schedule passes none; add defaults"):
            app.cron(every=1)(fn)
    assert app.tasks == []


def test_the_name_of_a_schedule_leaves_room_for_the_id_of_an_occurrence() -> None:
    app = Ardiq()
    task = app.cron(every=1, name="n" * 230)(lambda: None)
    task.options(task_id=f"cron:{task.name}:{2**43}").prepare()
    with pytest.raises(ValueError, match="at most 230"):
        app.cron(every=1, name="n" * 231)(lambda: None)


def test_a_schedule_can_have_a_zone_a_longest_delay_and_one_job_at_a_time() -> None:
    app = Ardiq()

    @app.cron("0 3 * * *", tz="Europe/Berlin", coalesce=True, max_schedule_drift=timedelta(hours=1), max_retries=1)
    async def nightly() -> None: ...

    assert app._schedules["nightly"].timing == Timing("0 3 * * *", None, "Europe/Berlin", True, 3_600_000)
    assert nightly.max_retries == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": 5, "tz": "Europe/Berlin"}, TypeError, "tz= is for cron expressions"),
        ({"spec": "@daily", "tz": 2}, TypeError, "such as 'Europe/Berlin', not int"),
        ({"spec": "@daily", "tz": "Europe/Berlln"}, ValueError, "did you mean 'Europe/Berlin'"),
        ({"spec": "@daily", "tz": "localtime"}, ValueError, "not a known time zone"),
        ({"spec": "@daily", "tz": "../etc/passwd"}, ValueError, "not a known time zone"),
        ({"spec": "@daily", "tz": ""}, ValueError, "not a known time zone"),
        ({"spec": "@daily", "coalesce": 1}, TypeError, "coalesce"),
        ({"spec": "@daily", "max_schedule_drift": 0}, ValueError, "max_schedule_drift must be more than zero"),
        ({"spec": "@daily", "max_schedule_drift": 0.0001}, ValueError, "max_schedule_drift must be at least"),
        ({"spec": "@daily", "max_schedule_drift": "1"}, TypeError, "max_schedule_drift must be a number"),
        ({"spec": "@daily", "timezone": "Europe/Berlin"}, TypeError, "has no option 'timezone'"),
    ],
    ids=str,
)
def test_bad_options_of_a_schedule_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Ardiq().cron(**arguments)


def test_where_there_is_no_database_of_zones_a_module_with_schedules_can_be_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(key: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(key)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    monkeypatch.setattr(zoneinfo, "available_timezones", set[str])
    assert check_zone("Europe/Berlin") == "Europe/Berlin"
    with pytest.raises(ValueError, match="not a known time zone"):
        check_zone("no zone")

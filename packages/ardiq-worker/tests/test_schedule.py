"""Which occurrences a schedule has, and which of them a check fires."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardiq.cron import Schedule
from ardiq_worker.schedule import MAX_LATE_MS, Cron, Due, Interval, Timer, occurrences


@dataclass(frozen=True)
class Plan:
    name: str = "report"
    spec: str | None = None
    every_ms: int | None = None


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("spec", "now", "following"),
    [
        ("*/5 * * * *", "2026-11-22T10:02:00", "2026-11-22T10:05:00"),
        ("*/5 * * * *", "2026-11-22T10:05:00", "2026-11-22T10:10:00"),
        ("*/5 * * * *", "2026-11-22T10:04:59.999", "2026-11-22T10:05:00"),
        ("0 3 * * *", "2026-03-29T02:30:00", "2026-03-29T03:00:00"),  # a night of clock changes in Europe: UTC has none
        ("0 12 * jan mon", "2026-01-01T00:00:00", "2026-01-05T12:00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("*/10 * * * * *", "2026-11-22T10:00:09.5", "2026-11-22T10:00:10"),
        ("@hourly", "2026-11-22T10:00:00", "2026-11-22T11:00:00"),
        ("@annually", "2026-11-22T10:00:00", "2027-01-01T00:00:00"),
        ("@midnight", "2026-11-22T10:00:00", "2026-11-23T00:00:00"),
        ("30 0 12 * * *", "2026-11-22T10:00:00", "2026-11-22T12:00:30"),
    ],
)
def test_cron_finds_the_next_moment_in_utc(spec: str, now: str, following: str) -> None:
    assert Cron(spec).after(ms(now)) == ms(following)


@pytest.mark.parametrize("now", ["2026-11-22T10:05:00", "2026-11-22T10:05:00.001", "2026-11-22T10:09:59.999"])
def test_cron_finds_the_last_moment(now: str) -> None:
    assert Cron("*/5 * * * *").until(ms(now)) == ms("2026-11-22T10:05:00")


@settings(deadline=None)
@given(st.integers(0, 4 * 10**12), st.sampled_from(["* * * * *", "*/7 3 * * *", "*/2 * * * * *"]))
def test_the_last_moment_is_not_after_now_and_the_next_one_is(now_ms: int, spec: str) -> None:
    cron = Cron(spec)
    assert cron.until(now_ms) <= now_ms < cron.after(now_ms)
    assert cron.after(cron.until(now_ms)) == cron.after(now_ms)


@settings(deadline=None)
@given(st.integers(0, 4 * 10**12), st.integers(1, 10**9))
def test_intervals_are_aligned_to_the_epoch(now_ms: int, every_ms: int) -> None:
    interval = Interval(every_ms)
    assert interval.until(now_ms) % every_ms == 0
    assert interval.until(now_ms) <= now_ms < interval.after(now_ms) == interval.until(now_ms) + every_ms


@pytest.mark.parametrize(
    "plan",
    [
        Plan(spec="61 * * * *"),
        Plan(spec="* * *"),
        Plan(spec="0 0 30 2 *"),  # never
        Plan(spec="0 0 1 1 * 2030 *"),
        Plan(spec=""),
        Plan(every_ms=0),
        Plan(),
    ],
)
def test_a_schedule_without_moments_is_refused_by_name(plan: Plan) -> None:
    with pytest.raises(ValueError, match="'report'"):
        occurrences(plan)


def test_both_kinds_of_schedule_have_moments() -> None:
    assert occurrences(Plan(spec="* * * * *")).after(0) == 60_000
    assert occurrences(Plan(every_ms=200)).after(0) == 200


def test_nothing_is_due_before_the_first_moment() -> None:
    due = Due(Interval(1000), 10_500)
    assert due.look(10_999) is None
    assert due.next_ms == 11_000


def test_a_moment_at_the_start_is_not_fired() -> None:
    assert Due(Interval(1000), 10_000).look(10_000) is None


def test_every_moment_is_fired_once() -> None:
    due = Due(Interval(200), 0)
    fired = [due.look(now_ms) for now_ms in range(0, 1_001, 50)]
    assert [one for one in fired if one is not None] == [200, 400, 600, 800, 1000]


def test_of_several_missed_moments_only_the_latest_is_fired() -> None:
    due = Due(Interval(1000), 0)
    assert due.look(5_300) == 5_000
    assert due.look(5_301) is None
    assert due.next_ms == 6_000


def test_a_moment_looked_at_too_late_is_skipped() -> None:
    hour = 3_600_000
    due = Due(Interval(hour), 1)
    assert due.look(hour + MAX_LATE_MS + 1) is None
    assert due.next_ms == 2 * hour
    due = Due(Interval(hour), 1)
    assert due.look(hour + MAX_LATE_MS) == hour


def test_a_clock_set_back_fires_nothing_and_goes_on_from_there() -> None:
    due = Due(Interval(1000), 100_000)
    assert due.look(101_000) == 101_000
    assert due.look(50_300) is None
    assert due.next_ms == 51_000
    assert due.look(51_000) == 51_000


def test_a_clock_set_forward_replays_nothing() -> None:
    due = Due(Cron("*/10 * * * *"), ms("2026-11-22T10:00:00"))
    assert due.look(ms("2026-11-23T10:05:00")) is None
    assert due.next_ms == ms("2026-11-23T10:10:00")


def test_the_next_moment_is_always_ahead() -> None:
    due = Due(Interval(1000), 0)
    for now_ms in (1_000, 999, 5_000, 0, 10**12, 3):
        due.look(now_ms)
        assert due.next_ms > now_ms


def test_a_moment_that_could_not_be_fired_is_tried_again() -> None:
    due = Due(Interval(10_000), 0)
    assert due.look(10_000) == 10_000
    due.failed(10_000)
    assert due.look(11_000) == 10_000
    assert due.look(12_000) is None


def test_a_later_moment_takes_the_place_of_one_that_could_not_be_fired() -> None:
    due = Due(Interval(10_000), 0)
    due.look(10_000)
    due.failed(10_000)
    assert due.look(20_001) == 20_000
    assert due.look(20_500) is None


def test_a_moment_that_could_not_be_fired_for_a_minute_is_skipped() -> None:
    due = Due(Interval(3_600_000), 0)
    due.look(3_600_000)
    due.failed(3_600_000)
    assert due.look(3_600_001 + MAX_LATE_MS) is None


class Loop:
    """Event loop whose time the test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def time(self) -> float:
        return self.now_s


def test_a_schedule_that_cannot_be_fired_is_logged_rarely_and_with_a_readable_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = Loop()
    timer = Timer(
        cast("Any", loop),
        cast("Any", None),
        [Schedule(name, None, 1000, cast("Any", None)) for name in ("tick", "tock")],
        poll_s=1,
        now_ms=lambda: 0,
        submission=cast("Any", lambda *_: None),
        paused=lambda: False,
    )
    fire_ms = ms("2026-11-22T10:00:00")
    due = Due(Interval(1000), fire_ms)
    for name, second in [("tick", 0), ("tick", 1), ("tock", 2), ("tick", 29), ("tick", 31)]:
        loop.now_s = 100.0 + second
        timer._fired(name, due, fire_ms, ValueError("refused"))
    text = "schedule of {} could not be fired for 2026-11-22 10:00:00+00:00: refused"
    assert caplog.messages == [text.format(name) for name in ("tick", "tock", "tick")]

"""Which occurrences a check fires."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from ardiq.cron import DRIFT_MS
from ardiq_worker.occurrences import Cron, Interval, Occurrences
from ardiq_worker.schedule import Due, Timer, _Entry


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def due_of(moments: Occurrences, now_ms: int) -> Due:
    return Due(moments, now_ms, DRIFT_MS)


def test_nothing_is_due_before_the_first_moment() -> None:
    due = due_of(Interval(1000), 10_500)
    assert due.look(10_999) is None
    assert due.next_ms == 11_000


def test_a_moment_at_the_start_is_not_fired() -> None:
    assert due_of(Interval(1000), 10_000).look(10_000) is None


def test_every_moment_is_fired_once() -> None:
    due = due_of(Interval(200), 0)
    fired = [due.look(now_ms) for now_ms in range(0, 1_001, 50)]
    assert [one for one in fired if one is not None] == [200, 400, 600, 800, 1000]


def test_of_several_missed_moments_only_the_latest_is_fired() -> None:
    due = due_of(Interval(1000), 0)
    assert due.look(5_300) == 5_000
    assert due.look(5_301) is None
    assert due.next_ms == 6_000


def test_a_moment_looked_at_too_late_is_skipped() -> None:
    hour = 3_600_000
    due = due_of(Interval(hour), 1)
    assert due.look(hour + DRIFT_MS + 1) is None
    assert due.next_ms == 2 * hour
    due = due_of(Interval(hour), 1)
    assert due.look(hour + DRIFT_MS) == hour


def test_a_clock_set_back_fires_nothing_and_goes_on_from_there() -> None:
    due = due_of(Interval(1000), 100_000)
    assert due.look(101_000) == 101_000
    assert due.look(50_300) is None
    assert due.next_ms == 51_000
    assert due.look(51_000) == 51_000


def test_a_clock_set_forward_replays_nothing() -> None:
    due = due_of(Cron("*/10 * * * *"), ms("2026-11-22T10:00:00"))
    assert due.look(ms("2026-11-23T10:05:00")) is None
    assert due.next_ms == ms("2026-11-23T10:10:00")


def test_the_next_moment_is_always_ahead() -> None:
    due = due_of(Interval(1000), 0)
    for now_ms in (1_000, 999, 5_000, 0, 10**12, 3):
        due.look(now_ms)
        assert due.next_ms > now_ms


def test_a_moment_that_could_not_be_fired_is_tried_again() -> None:
    due = due_of(Interval(10_000), 0)
    assert due.look(10_000) == 10_000
    due.failed(10_000)
    assert due.look(11_000) == 10_000
    assert due.look(12_000) is None


def test_a_later_moment_takes_the_place_of_one_that_could_not_be_fired() -> None:
    due = due_of(Interval(10_000), 0)
    due.look(10_000)
    due.failed(10_000)
    assert due.look(20_001) == 20_000
    assert due.look(20_500) is None


def test_a_moment_that_could_not_be_fired_for_a_minute_is_skipped() -> None:
    due = due_of(Interval(3_600_000), 0)
    due.look(3_600_000)
    due.failed(3_600_000)
    assert due.look(3_600_001 + DRIFT_MS) is None


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
    timer = Timer(cast("Any", loop), cast("Any", None), [], poll_s=1, now_ms=lambda: 0, paused=lambda: False)
    fire_ms = ms("2026-11-22T10:00:00")
    due = due_of(Interval(1000), fire_ms)
    for name, second in [("tick", 0), ("tick", 1), ("tock", 2), ("tick", 29), ("tick", 31)]:
        loop.now_s = 100.0 + second
        plan = (name, name, "default", None, 1000, "UTC", False, DRIFT_MS, 0, None, None, b"")
        timer._fired(_Entry(plan, b"", due), fire_ms, ValueError("refused"))
    text = "schedule of {} could not be fired for 2026-11-22 10:00:00+00:00: refused"
    assert caplog.messages == [text.format(name) for name in ("tick", "tock", "tick")]


def test_an_occurrence_may_be_as_late_as_its_schedule_allows() -> None:
    hour = 3_600_000
    for drift_ms, expected in [(5_000, None), (5_001, hour)]:
        assert Due(Interval(hour), 1, drift_ms).look(hour + 5_001) == expected

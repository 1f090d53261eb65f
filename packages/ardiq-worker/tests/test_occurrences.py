"""Which occurrences a schedule has, in UTC and in time zones with clock changes."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardiq_worker.occurrences import Cron, Interval, LocalCron, occurrences

HOUR_MS = 3_600_000


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
    ("spec", "every_ms"),
    [("61 * * * *", None), ("* * *", None), ("0 0 30 2 *", None), ("0 0 1 1 * 2030 *", None), ("", None), (None, 0)],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_a_schedule_without_moments_is_refused(spec: str | None, every_ms: int | None, zone: str) -> None:
    with pytest.raises(ValueError, match=r"expression|interval|match"):
        occurrences(spec, every_ms, zone)


def test_a_schedule_needs_an_expression_or_an_interval() -> None:
    with pytest.raises(ValueError, match="neither"):
        occurrences(None, None, "UTC")
    assert occurrences("* * * * *", None, "UTC").after(0) == 60_000
    assert occurrences(None, 200, "UTC").after(0) == 200


def test_a_zone_that_the_machine_does_not_know_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"'Europe/Nowhere'.*tzdata"):
        occurrences("* * * * *", None, "Europe/Nowhere")


def local(spec: str, zone: str, begin: str, end: str) -> list[str]:
    """The occurrences between two times in UTC, as local times with their offsets."""
    cron, now_ms, found = LocalCron(spec, zone), ms(begin), list[str]()
    while (now_ms := cron.after(now_ms)) < ms(end):
        found.append(datetime.fromtimestamp(now_ms / 1000, ZoneInfo(zone)).isoformat(timespec="minutes"))
    return found


DAYS = [
    # Berlin: 2:00 becomes 3:00 on March 29, and 3:00 becomes 2:00 on October 25, 2026.
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T03:00", "2026-03-31T00:00",
     ["2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]),
    ("0 2 * * *", "Europe/Berlin", "2026-03-28T03:00", "2026-03-30T00:00", ["2026-03-29T03:00+02:00"]),
    ("0,30 2,3 * * *", "Europe/Berlin", "2026-03-28T03:00", "2026-03-30T00:00",
     ["2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"]),
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-27T00:00",
     ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    ("0 3 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-26T00:00", ["2026-10-25T03:00+01:00"]),
    ("0 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-26T00:00", ["2026-10-25T02:00+02:00"]),
    ("30 * * * *", "Europe/Berlin", "2026-03-29T00:00", "2026-03-29T03:00",
     ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00", "2026-03-29T04:30+02:00"]),
    ("30 * * * *", "Europe/Berlin", "2026-10-24T23:45", "2026-10-25T03:00",
     ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00"]),
    # New York: 2:00 becomes 3:00 on March 8, and 2:00 becomes 1:00 on November 1, 2026.
    ("30 2 * * *", "America/New_York", "2026-03-08T00:00", "2026-03-10T00:00",
     ["2026-03-08T03:30-04:00", "2026-03-09T02:30-04:00"]),
    ("30 1 * * *", "America/New_York", "2026-10-31T12:00", "2026-11-03T00:00",
     ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
    # Lord Howe: 2:00 becomes 2:30 on October 4, and 2:00 becomes 1:30 on April 5, 2026.
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", "2026-10-05T00:00",
     ["2026-10-04T02:45+11:00", "2026-10-05T02:15+11:00"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00", "2026-04-06T00:00",
     ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]),
    ("0 2 * * *", "Australia/Lord_Howe", "2026-04-04T00:00", "2026-04-05T12:00", ["2026-04-05T02:00+10:30"]),
    # Zones whose offset is not a whole number of hours, without clock changes.
    ("0 12 * * *", "Asia/Kolkata", "2026-11-22T00:00", "2026-11-24T00:00",
     ["2026-11-22T12:00+05:30", "2026-11-23T12:00+05:30"]),
    ("0 0 * * mon", "Asia/Kathmandu", "2026-11-22T00:00", "2026-11-24T00:00", ["2026-11-23T00:00+05:45"]),
    # Samoa skipped the whole of December 30, 2011.
    ("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00", "2012-01-01T00:00",
     ["2011-12-29T12:00-10:00", "2011-12-31T12:00+14:00", "2012-01-01T12:00+14:00"]),
    ("@monthly", "Europe/Berlin", "2026-02-28T00:00", "2026-05-01T00:00",
     ["2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00", "2026-05-01T00:00+02:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "zone", "begin", "end", "expected"), DAYS)
def test_clock_changes_fire_once(spec: str, zone: str, begin: str, end: str, expected: list[str]) -> None:
    assert local(spec, zone, begin, end) == expected


@pytest.mark.parametrize(("spec", "zone", "begin", "end", "expected"), DAYS)
def test_the_last_occurrence_is_the_one_that_came_last(
    spec: str, zone: str, begin: str, end: str, expected: list[str]
) -> None:
    cron = LocalCron(spec, zone)
    for now_ms in range(ms(begin), ms(end), 7 * 60_000):
        last_ms = cron.until(now_ms)
        assert last_ms <= now_ms < cron.after(last_ms) == cron.after(now_ms)


def test_an_expression_that_matches_every_hour_fires_evenly_through_clock_changes() -> None:
    for zone in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe"):
        cron, now_ms = LocalCron("*/10 * * * *", zone), ms("2026-01-01T00:00")
        moments = [now_ms]
        while now_ms < ms("2026-12-01T00:00"):
            moments.append(now_ms := cron.after(now_ms))
        assert {later - earlier for earlier, later in pairwise(moments)} == {600_000}


def test_a_rare_expression_is_found_years_away() -> None:
    cron = LocalCron("0 0 29 2 *", "Europe/Berlin")
    assert cron.after(ms("2026-01-01T00:00")) == ms("2028-02-28T23:00")
    assert cron.until(ms("2026-01-01T00:00")) == ms("2024-02-28T23:00")


def by_definition(spec: str, zone: str, begin_ms: int, end_ms: int) -> list[int]:
    """The occurrences, computed from each minute of local time."""
    cron, info, due = Cron(spec), ZoneInfo(zone), set[int]()
    wall_ms = begin_ms - 30 * HOUR_MS
    while (wall_ms := cron.after(wall_ms)) < end_ms + 30 * HOUR_MS:
        wall = datetime(1970, 1, 1) + timedelta(milliseconds=wall_ms)
        for fold in (0, 1) if cron.is_hourly else (0,):
            at = wall.replace(tzinfo=info, fold=fold)
            exists = at.astimezone(UTC).astimezone(info).replace(tzinfo=None) == wall
            if fold == 0 or exists:  # with fold=1, a time that does not exist would be earlier
                due.add(round(at.timestamp()) * 1000)
    return sorted(at for at in due if begin_ms < at <= end_ms)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "5,35 1-3 * * *", "0 */2 * * *", "15 2 * * sun", "0 0 1 * *"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"]),
    st.sampled_from(["2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01", "2026-04-05", "2026-10-04", "2026-02-15"]),
    st.integers(-36 * 60, 36 * 60),
)
def test_occurrences_are_those_of_the_definition(spec: str, zone: str, day: str, minutes: int) -> None:
    begin_ms = ms(f"{day}T00:00") + minutes * 60_000
    end_ms = begin_ms + 40 * HOUR_MS
    cron, now_ms, found = LocalCron(spec, zone), begin_ms, list[int]()
    while (now_ms := cron.after(now_ms)) <= end_ms:
        found.append(now_ms)
    assert found == by_definition(spec, zone, begin_ms, end_ms)
    backwards, now_ms = list[int](), end_ms
    while (last_ms := cron.until(now_ms)) > begin_ms:
        backwards.append(last_ms)
        now_ms = last_ms - 1
    assert backwards[::-1] == found


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(ms("2026-10-24T22:00"), ms("2026-10-25T04:00")), min_size=1, max_size=20))
def test_remembered_answers_are_those_that_would_be_computed(moments: list[int]) -> None:
    computed = LocalCron("*/7 1-3 * * *", "Europe/Berlin")
    remembered = occurrences("*/7 1-3 * * *", None, "Europe/Berlin")
    for now_ms in moments:
        assert remembered.until(now_ms) == computed.until(now_ms)
        assert remembered.after(now_ms) == computed.after(now_ms)

"""When cron expressions match, compared with a matcher that shares no code with ours and checks one
day after the other.
"""

import calendar
import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ardiq import Ardiq
from ardiq_worker.occurrences import Cron

NAMES = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
BOUNDS = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}


def named(kind: str, text: str) -> int:
    value = {**NAMES, **MONTHS}.get(text.lower())
    value = int(text) if value is None else value
    return value % 7 if kind == "weekday" else value


def values(kind: str, text: str) -> set[int]:
    """Return the values of a field without `L`, `W` and `#`. Ranges may wrap around."""
    lowest, highest = BOUNDS[kind]
    found: set[int] = set()
    for item in text.split(","):
        base, _, step = item.partition("/")
        if base in ("*", "?"):
            first, last = lowest, highest
        elif "-" in base:
            low, high = base.split("-")
            first, last = named(kind, low), highest if high == "l" else named(kind, high)
            if kind == "weekday" and high == "7" and first == 0 and low != "7":
                last = 6
        else:
            first = named(kind, base)
            last = highest if step else first
        value, count = first, 0
        while True:
            if count % int(step or 1) == 0:
                found.add(value)
            if value == last:
                break
            value, count = (value + 1 if value < highest else lowest), count + 1
    return found


def day_matches(kind: str, text: str, day: date) -> bool | None:
    """Return whether a field for days contains this day, or None if it restricts nothing."""
    last_day = calendar.monthrange(day.year, day.month)[1]
    if "#" in text or (kind == "weekday" and text.startswith("l")):
        weekday = day.isoweekday() % 7
        for item in text.split(","):
            if item.startswith("l"):
                if weekday == named(kind, item[1:]) and day.day + 7 > last_day:
                    return True
            else:
                days, nth = item.split("#")
                if weekday in values(kind, days) and (day.day - 1) // 7 + 1 == int(nth):
                    return True
        return False
    if text == "?" or "*" in text.split(","):
        return None
    if kind == "weekday":
        named_days = values(kind, text)
        return None if len(named_days) == 7 else day.isoweekday() % 7 in named_days
    if text.endswith("w"):
        wanted = date(day.year, day.month, int(text[:-1]))
        near = [wanted + timedelta(days=shift) for shift in (0, -1, 1, -2, 2)]
        return day == next(one for one in near if one.month == day.month and one.isoweekday() < 6)
    items = text.split(",")
    plain = ",".join(item for item in items if item != "l")
    numbers = values(kind, plain) if plain else set[int]()
    if len(numbers | ({31} if "l" in items else set())) == 31:
        return None
    return day.day in numbers or ("l" in items and day.day == last_day)


class Matcher:
    def __init__(self, spec: str) -> None:
        fields = spec.lower().split()
        second, minute, hour, self.day, month, self.weekday = fields if len(fields) == 6 else ["0", *fields]
        self.months = values("month", month)
        self.seconds = sorted(
            3600 * hours + 60 * minutes + seconds
            for hours in values("hour", hour)
            for minutes in values("minute", minute)
            for seconds in values("second", second)
        )

    def fires_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        answers = [day_matches("day", self.day, day), day_matches("weekday", self.weekday, day)]
        restrictions = [answer for answer in answers if answer is not None]
        return any(restrictions) if restrictions else True

    def after(self, moment: datetime) -> datetime | None:
        for days in range(366 * 45):
            day = moment.date() + timedelta(days=days)
            if self.fires_on(day):
                midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
                for second in self.seconds:
                    if midnight + timedelta(seconds=second) > moment:
                        return midnight + timedelta(seconds=second)
        return None

    def until(self, moment: datetime) -> datetime | None:
        for days in range(366 * 45):
            day = moment.date() - timedelta(days=days)
            if self.fires_on(day):
                midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
                for second in reversed(self.seconds):
                    if midnight + timedelta(seconds=second) <= moment:
                        return midnight + timedelta(seconds=second)
        return None


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def refused(spec: str) -> str | None:
    try:
        Ardiq().cron(spec)
    except ValueError as error:
        return str(error)
    return None


def compare(spec: str, starts: list[datetime]) -> None:
    matcher = Matcher(spec)
    if (refusal := refused(spec)) is not None:
        assert re.search("would never fire|not every month", refusal), refusal
        assert "never" not in refusal or matcher.after(starts[0]) is None
        return
    cron = Cron(spec)
    for start in starts:
        after, until = matcher.after(start), matcher.until(start)
        assert after is not None, "registered, and never comes true"
        assert until is not None
        assert (cron.after(ms(start)), cron.until(ms(start))) == (ms(after), ms(until)), start


def numbers(lowest: int, highest: int, names: dict[str, int] | None = None) -> st.SearchStrategy[str]:
    plain = st.integers(lowest, highest).map(str)
    return plain | st.sampled_from(sorted(names)) if names else plain


def field(lowest: int, highest: int, names: dict[str, int] | None = None) -> st.SearchStrategy[str]:
    value = numbers(lowest, highest, names)
    step = st.one_of(st.just(""), st.integers(1, highest + 5).map(lambda number: f"/{number}"))
    item = st.one_of(
        value,
        st.tuples(value, step).map("".join),
        st.tuples(st.just("*"), step).map("".join),
        st.tuples(value, value, step).map(lambda parts: f"{parts[0]}-{parts[1]}{parts[2]}"),
        value.map(lambda text: f"{text}-{text}"),
    )
    return st.just("*") | st.lists(item, min_size=1, max_size=3).map(",".join)


weekday = numbers(0, 7, NAMES)
nth = st.tuples(weekday, st.integers(1, 5)).map(lambda parts: f"{parts[0]}#{parts[1]}")
days = st.one_of(
    field(1, 31),
    st.sampled_from(
        [
            "?",
            "l",
            "L",
            "*",
            "1,l",
            "2-31,l",
            "1-31",
            "1-31,l",
            "l,1-30",
            "*/1,l",
            "1-29,l",
            "20-l",
            "30",
            "31",
            "29,l",
            "*/1",
        ]
    ),
    st.integers(1, 28).map(lambda number: f"{number}w"),
)
weekdays = st.one_of(
    field(0, 7, NAMES),
    st.sampled_from(["?", "*", "0-6", "0-7", "7", "sun-sat", "7-7", "5-7", "fri-mon", "sat-sun", "*/1", "*,thu"]),
    st.lists(st.one_of(nth, weekday.map(lambda day: f"l{day}")), min_size=1, max_size=2).map(",".join),
    st.sampled_from(["mon-fri#1", "fri-mon#2", "sun#5"]),
)
expressions = st.tuples(
    st.one_of(st.just(""), field(0, 59)),
    field(0, 59),
    field(0, 23),
    days,
    st.one_of(field(1, 12, MONTHS), st.just("*"), st.just("2")),
    weekdays,
).map(" ".join)
starts = st.lists(
    st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)).map(lambda when: when.replace(microsecond=0, tzinfo=UTC)),
    min_size=1,
    max_size=3,
)
LEAP = datetime(2096, 2, 28, tzinfo=UTC)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(expressions, starts)
@example("0 9-9 * * *", [LEAP])
@example("0 0 30 2 *,thu", [LEAP])
@example("0 0 30 2 0-6", [LEAP])
@example("0 0 31 2 sun-sat", [LEAP])
@example("0 0 31 2,4 mon", [LEAP])
@example("0 0 1-31 * mon", [LEAP])
@example("0 0 2-31,l * tue", [LEAP])
@example("0 0 1-31,L * mon", [LEAP])
@example("0 0 */1,L * mon", [LEAP])
@example("0 0 L,1-30 * mon", [LEAP])
@example("0 0 1-29,L * mon", [LEAP])
@example("0 0 L,L * mon", [LEAP])
@example("0 0 13 * fri#1", [LEAP])
@example("0 0 15w * mon", [LEAP])
@example("0 0 l * mon#1", [LEAP])
@example("0 0 29 2 *", [LEAP])
@example("0 0 ? 2 mon#5", [LEAP])
@example("0 22-4/3 * * *", [LEAP])
@example("0 0 28-3/2 * *", [LEAP])
@example("0 0 1 nov-feb/2 *", [LEAP])
@example("0 0 * * fri-mon/2", [LEAP])
@example("59/15 * * * *", [LEAP])
@example("*/90 * * * *", [LEAP])
@example("0 0 * * 1/2", [LEAP])
@example("0 0 * * 0-7/7", [LEAP])
@example("30-29/40 0 0 * * *", [LEAP])
def test_an_expression_comes_true_when_it_says(spec: str, starts: list[datetime]) -> None:
    compare(spec, starts)


@pytest.mark.parametrize("spec", ["0 0 30 2 *,thu", "0 0 30 2 0-6", "0 0 30 2 *", "0 0 31 2,4 ?", "0 0 30 2 */1"])
def test_what_never_comes_true_is_refused_at_registration(spec: str) -> None:
    with pytest.raises(ValueError, match="it would never fire"):
        Ardiq().cron(spec)


@pytest.mark.parametrize("spec", ["0 0 31w 2 *", "0 0 30w * *", "0 0 29w 2 *"])
def test_a_nearest_weekday_to_a_day_that_a_month_may_not_have_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="some of the chosen months do not have"):
        Ardiq().cron(spec)


def test_the_aliases_mean_what_they_say() -> None:
    start = datetime(2026, 11, 25, 13, 37, tzinfo=UTC)
    expected = {
        "@hourly": datetime(2026, 11, 25, 14, tzinfo=UTC),
        "@daily": datetime(2026, 11, 26, tzinfo=UTC),
        "@midnight": datetime(2026, 11, 26, tzinfo=UTC),
        "@weekly": datetime(2026, 11, 29, tzinfo=UTC),
        "@Monthly": datetime(2026, 12, 1, tzinfo=UTC),
        "@yearly": datetime(2027, 1, 1, tzinfo=UTC),
        "@annually": datetime(2027, 1, 1, tzinfo=UTC),
    }
    for alias, moment in expected.items():
        assert Cron(alias).after(ms(start)) == ms(moment)

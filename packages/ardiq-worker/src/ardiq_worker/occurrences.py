"""The times at which a schedule is due.

All arithmetic is in epoch milliseconds. A cron expression is evaluated in local time, as if that
were UTC, and each local time is then converted. So croniter, which has its own ideas about clock
changes, never sees a time zone.

When clocks are set forward, local times that do not exist are due later, by the length of the gap.
When they are set back, local times that exist twice are due the first time. An expression that
matches every hour follows the elapsed time instead, and is due both times.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from croniter import croniter

HOUR_MS = 3_600_000

_STEP_MS = 6 * HOUR_MS
"""Clock changes of a zone are further apart than this."""

_AROUND_MS = 48 * HOUR_MS
"""No clock change shifts an occurrence by as much as this."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Occurrences(Protocol):
    """The times at which one schedule is due."""

    def after(self, now_ms: int) -> int:
        """The first occurrence later than `now_ms`."""
        ...

    def until(self, now_ms: int) -> int:
        """The last occurrence not later than `now_ms`."""
        ...


class Interval:
    """Every `every_ms`, counted from the epoch."""

    def __init__(self, every_ms: int) -> None:
        if every_ms < 1:
            raise ValueError(f"an interval of {every_ms} ms is not possible")
        self._every_ms = every_ms

    def after(self, now_ms: int) -> int:
        """The first multiple later than `now_ms`."""
        return self.until(now_ms) + self._every_ms

    def until(self, now_ms: int) -> int:
        """The last multiple not later than `now_ms`."""
        return now_ms // self._every_ms * self._every_ms


class Cron:
    """A cron expression, in UTC.

    Raises ValueError if the expression is malformed or never matches.
    """

    def __init__(self, spec: str) -> None:
        # Imported here, because they would cost a worker without schedules several megabytes.
        from croniter import croniter

        from ardiq.expression import parts

        self._parts = parts(spec)
        self._croniter = croniter
        self.after(0)

    @property
    def is_hourly(self) -> bool:
        """Whether it matches in every hour of the day."""
        return all(part.split()[2] == "*" for part in self._parts)

    def after(self, now_ms: int) -> int:
        """The first occurrence later than `now_ms`."""
        return min(round(one.get_next(float)) for one in self._from(now_ms // 1000)) * 1000

    def until(self, now_ms: int) -> int:
        """The last occurrence not later than `now_ms`."""
        return max(round(one.get_prev(float)) for one in self._from(now_ms // 1000 + 1)) * 1000

    def _from(self, seconds: int) -> list[croniter]:
        return [self._croniter(part, seconds, second_at_beginning=True) for part in self._parts]


class _Span(NamedTuple):
    """From `begin_ms` to before `end_ms`, the local times that are due are `offset_ms` ahead of
    UTC.
    """

    begin_ms: int
    end_ms: int
    offset_ms: int


class LocalCron:
    """A cron expression in a time zone.

    Raises ValueError if the expression is malformed or never matches, or the zone is unknown.
    """

    def __init__(self, spec: str, zone: str) -> None:
        from zoneinfo import ZoneInfo

        self._cron = Cron(spec)
        try:
            self._zone = ZoneInfo(zone)
        except (ValueError, LookupError, OSError):
            raise ValueError(
                f"this machine does not know the time zone {zone!r}; check the name, or pip install --upgrade tzdata"
            ) from None

    def after(self, now_ms: int) -> int:
        """The first occurrence later than `now_ms`."""
        from_ms = now_ms
        while True:
            spans = list(self._spans(from_ms - _AROUND_MS, from_ms + 2 * _AROUND_MS))
            end_ms = spans[-1].end_ms
            found = [due for span in spans if (due := self._first(span, now_ms)) is not None and due < end_ms]
            if found:
                return min(found)
            # Nothing is due in these days: continue shortly before the next local time that is.
            from_ms = max(end_ms, self._cron.after(end_ms + self._offset_ms(end_ms)) - _AROUND_MS)

    def until(self, now_ms: int) -> int:
        """The last occurrence not later than `now_ms`."""
        from_ms = now_ms
        while True:
            spans = list(self._spans(from_ms - 2 * _AROUND_MS, from_ms + _AROUND_MS))
            found = [due for span in spans if (due := self._last(span, now_ms)) is not None]
            if found:
                return max(found)
            begin_ms = spans[0].begin_ms
            from_ms = min(begin_ms, self._cron.until(begin_ms + self._offset_ms(begin_ms)) + _AROUND_MS)

    def _first(self, span: _Span, now_ms: int) -> int | None:
        earliest_ms = max(now_ms, span.begin_ms - 1)
        due_ms = self._cron.after(earliest_ms + span.offset_ms) - span.offset_ms
        return due_ms if due_ms < span.end_ms else None

    def _last(self, span: _Span, now_ms: int) -> int | None:
        latest_ms = min(now_ms, span.end_ms - 1)
        due_ms = self._cron.until(latest_ms + span.offset_ms) - span.offset_ms
        return due_ms if due_ms >= span.begin_ms else None

    def _spans(self, begin_ms: int, end_ms: int) -> Iterator[_Span]:
        """Divide a time at the zone's clock changes."""
        start_ms, offset_ms = begin_ms, self._offset_ms(begin_ms)
        for change_ms in self._changes(begin_ms, end_ms):
            yield _Span(start_ms, change_ms, offset_ms)
            before_ms, offset_ms = offset_ms, self._offset_ms(change_ms)
            start_ms = change_ms
            if offset_ms > before_ms:  # local times that do not exist are due after the change
                yield _Span(change_ms, change_ms + offset_ms - before_ms, before_ms)
            elif not self._cron.is_hourly:  # local times that exist twice have been due
                start_ms += before_ms - offset_ms
        yield _Span(start_ms, end_ms, offset_ms)

    def _changes(self, begin_ms: int, end_ms: int) -> Iterator[int]:
        """The times after `begin_ms` and before `end_ms` from which another offset applies."""
        for low_ms in range(begin_ms, end_ms, _STEP_MS):
            low, high = low_ms, min(low_ms + _STEP_MS, end_ms - 1)
            offset_ms = self._offset_ms(low)
            if self._offset_ms(high) != offset_ms:
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if self._offset_ms(middle) == offset_ms else (low, middle)
                yield high

    def _offset_ms(self, at_ms: int) -> int:
        offset = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(self._zone).utcoffset()
        return round((offset or timedelta()).total_seconds() * 1000)


class Remembered:
    """Occurrences that are expensive to compute: the last answers also serve the times between
    them.
    """

    def __init__(self, moments: Occurrences) -> None:
        self._moments = moments
        self._after = (0, 0)
        self._until = (0, 0)

    def after(self, now_ms: int) -> int:
        """The first occurrence later than `now_ms`."""
        begin_ms, next_ms = self._after
        if not begin_ms <= now_ms < next_ms:
            next_ms = self._moments.after(now_ms)
            self._after = (now_ms, next_ms)
        return next_ms

    def until(self, now_ms: int) -> int:
        """The last occurrence not later than `now_ms`."""
        last_ms, end_ms = self._until
        if not last_ms <= now_ms < end_ms:
            last_ms = self._moments.until(now_ms)
            self._until = (last_ms, self.after(now_ms))
        return last_ms


@lru_cache(maxsize=1024)
def _of_expression(spec: str, zone: str) -> Occurrences:
    """Many schedules have the same expression."""
    return Remembered(Cron(spec) if zone == "UTC" else LocalCron(spec, zone))


def occurrences(spec: str | None, every_ms: int | None, zone: str) -> Occurrences:
    """Return the occurrences of a schedule. Raises ValueError if it has none."""
    if every_ms is not None:
        return Interval(every_ms)
    if spec is None:
        raise ValueError("neither an expression nor an interval")
    return _of_expression(spec, zone)

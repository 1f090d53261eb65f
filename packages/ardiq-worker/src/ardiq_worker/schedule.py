"""Recurring tasks: which occurrence is due, and the timer that fires it.

All arithmetic is in epoch milliseconds by the Redis clock. An occurrence is fired under the id
`cron:<name>:<fire_ms>`, and the engine fires it once, no matter how many workers ask. Missed
occurrences are skipped: only the latest one since the last check counts, and only if it is not
older than `MAX_LATE_MS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from ardiq.checks import LATEST_MS
from ardiq.host import WakeUp
from ardiq_worker.logs import Log

if TYPE_CHECKING:
    from croniter import croniter

    from ardiq.cron import Schedule
    from ardiq_core import Mailbox
    from ardiq_core.shapes import Submission

log = Log("ardiq.worker")

MAX_LATE_MS = 60_000
MIN_SLEEP_S = 0.001
"""A timer may fire a little early.

Sleeping at least this long keeps that from becoming a busy loop.
"""

REPEAT_S = 30.0
"""The shortest time between two lines about failures of one schedule."""

CLOCK_REQUEST = 0
FIRED_AGAIN = 2


class Timing(Protocol):
    """What this module needs from a schedule: a name and exactly one of `spec` and `every_ms`."""

    @property
    def name(self) -> str:
        """Name of the task that it fires."""
        ...

    @property
    def spec(self) -> str | None:
        """Cron expression in UTC; a sixth field, for seconds, comes first."""
        ...

    @property
    def every_ms(self) -> int | None:
        """Interval, aligned to the epoch."""
        ...


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

    def after(self, now_ms: int) -> int:
        """The first occurrence later than `now_ms`."""
        return min(round(one.get_next(float)) for one in self._from(now_ms // 1000)) * 1000

    def until(self, now_ms: int) -> int:
        """The last occurrence not later than `now_ms`."""
        return max(round(one.get_prev(float)) for one in self._from(now_ms // 1000 + 1)) * 1000

    def _from(self, seconds: int) -> list[croniter]:
        return [self._croniter(part, seconds, second_at_beginning=True) for part in self._parts]


def occurrences(schedule: Timing) -> Occurrences:
    """Return the occurrences of `schedule`. Raises ValueError, with its name, if it has none."""
    try:
        if schedule.every_ms is not None:
            return Interval(schedule.every_ms)
        if schedule.spec is not None:
            return Cron(schedule.spec)
        raise ValueError("neither an expression nor an interval")
    except ValueError as error:
        raise ValueError(f"schedule of {schedule.name!r}: {error}") from error


class Due:
    """Decides at each check which occurrence of one schedule to fire."""

    def __init__(self, moments: Occurrences, now_ms: int) -> None:
        self._moments = moments
        self._looked_ms = now_ms
        self._failed_ms: int | None = None
        self.next_ms = moments.after(now_ms)

    def failed(self, fire_ms: int) -> None:
        """Note that the occurrence could not be fired.

        The next check tries it again, unless a later one is due by then or it is too old.
        """
        self._failed_ms = fire_ms

    def look(self, now_ms: int) -> int | None:
        """Return the occurrence to fire now, if any.

        Afterwards, `next_ms` is later than `now_ms`.
        """
        due, self._failed_ms = self._failed_ms, None
        if now_ms < self._looked_ms:  # the clock was set back; what was fired before is not fired again by the engine
            self.next_ms = self._moments.after(now_ms)
        elif now_ms >= self.next_ms:
            due = self._moments.until(now_ms)
            self.next_ms = self._moments.after(now_ms)
        self._looked_ms = now_ms
        return due if due is not None and now_ms - due <= MAX_LATE_MS else None


def _readable(moment_ms: int) -> str:
    """Return a time in UTC, for people."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment_ms)
    return moment.isoformat(sep=" ", timespec="seconds" if moment_ms % 1000 == 0 else "milliseconds")


class Timer:
    """Fires the occurrences of `schedules` through a mailbox of its own, until `close`.

    `now_ms` returns the Redis time, `submission` creates the job of one occurrence, and `paused`
    returns whether no occurrence should fire.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make_mailbox: Callable[[], Mailbox],
        schedules: Iterable[Schedule],
        *,
        poll_s: float,
        now_ms: Callable[[], int],
        submission: Callable[[Schedule, int], Submission],
        paused: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._make_mailbox = make_mailbox
        self._moments = [(schedule, occurrences(schedule)) for schedule in schedules]
        for schedule, _ in self._moments:
            submission(schedule, LATEST_MS)  # raises now what each occurrence would raise, for example a long name
        self._poll_s = max(poll_s, MIN_SLEEP_S)
        self._now_ms = now_ms
        self._submission = submission
        self._paused = paused
        self._due: list[tuple[Schedule, Due]] = []
        self._asked: dict[int, tuple[str, Due, int]] = {}
        self._told_s: dict[str, float] = {}
        self._request_id = CLOCK_REQUEST
        self._handle: asyncio.TimerHandle | None = None
        self._wakeup: WakeUp | None = None

    def start(self) -> None:
        """Ask for the Redis time, and check the schedules from then on."""
        if self._moments:
            mailbox = self._make_mailbox()
            self._wakeup = WakeUp(self._loop, mailbox.fileno(), lambda: self._answered(mailbox))
            mailbox.clock(CLOCK_REQUEST)

    def close(self) -> None:
        """Fire nothing more. Calling it twice is harmless."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._wakeup is not None:
            self._wakeup.close()
            self._wakeup = None

    def _answered(self, mailbox: Mailbox) -> None:
        for request_id, answer in mailbox.drain():
            if request_id == CLOCK_REQUEST:
                self._know_time(mailbox, answer)
            else:
                self._fired(*self._asked.pop(request_id), answer)

    def _know_time(self, mailbox: Mailbox, answer: int | BaseException) -> None:
        if isinstance(answer, BaseException):
            self._handle = self._loop.call_later(self._poll_s, mailbox.clock, CLOCK_REQUEST)
            return
        self._due = [(schedule, Due(moments, answer)) for schedule, moments in self._moments]
        self._look(mailbox)

    def _fired(self, name: str, due: Due, fire_ms: int, answer: int | BaseException) -> None:
        if isinstance(answer, BaseException):
            self._tell_failure(name, fire_ms, answer)
            due.failed(fire_ms)
        elif answer:
            log.debug("schedule of %s fired for %s", name, _readable(fire_ms))
        if answer == FIRED_AGAIN:
            log.warning(
                "schedule of %s was already fired for a time that is now in the future: the Redis clock was set back. "
                "The schedule continues from now, and may fire again for the same times",
                name,
            )

    def _look(self, mailbox: Mailbox) -> None:
        now = self._now_ms()
        paused = self._paused()
        for schedule, due in self._due:
            fire_ms = due.look(now)
            if fire_ms is not None and not paused:
                self._fire(mailbox, schedule, due, fire_ms)
        # Time may have passed while firing.
        wait_s = (min(due.next_ms for _, due in self._due) - self._now_ms()) / 1000
        self._handle = self._loop.call_later(min(max(wait_s, MIN_SLEEP_S), self._poll_s), self._look, mailbox)

    def _fire(self, mailbox: Mailbox, schedule: Schedule, due: Due, fire_ms: int) -> None:
        try:
            submission = self._submission(schedule, fire_ms)
            self._request_id += 1
            mailbox.fire(self._request_id, schedule.name, fire_ms, due.next_ms - fire_ms, submission)
            self._asked[self._request_id] = (schedule.name, due, fire_ms)
        except BaseException as error:  # noqa: BLE001 - a serializer may raise anything; the other schedules go on
            self._tell_failure(schedule.name, fire_ms, error)

    def _tell_failure(self, name: str, fire_ms: int, error: BaseException) -> None:
        """Log the failure, rarely for each schedule: a refusal can last."""
        now_s = self._loop.time()
        told_s = self._told_s.get(name)
        if told_s is None or now_s - told_s >= REPEAT_S:
            self._told_s[name] = now_s
            log.warning("schedule of %s could not be fired for %s: %s", name, _readable(fire_ms), error)

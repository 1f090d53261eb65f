"""Recurring tasks: which occurrence is due, and the timer that fires it.

A worker fires the schedules of its own code and, whether it knows their tasks or not, all dynamic
schedules of its queue. The engine reports when a dynamic schedule was created, changed, paused,
resumed or removed.

All arithmetic is in epoch milliseconds by the Redis clock. The engine fires an occurrence once, no
matter how many workers ask. Missed occurrences are skipped: only the latest one since the last
check counts, and only if it is not too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from ardiq.host import WakeUp, static_plan
from ardiq.printable import printable
from ardiq_worker.logs import Log
from ardiq_worker.occurrences import Occurrences, occurrences

if TYPE_CHECKING:
    from ardiq.cron import StaticSchedule
    from ardiq_core import Mailbox
    from ardiq_core.shapes import Agenda, Plan, Scheduled

log = Log("ardiq.worker")

MIN_SLEEP_S = 0.001
"""A timer may fire a little early.

Sleeping at least this long keeps that from becoming a busy loop.
"""

REPEAT_S = 30.0
"""The shortest time between two lines about failures of one schedule."""

DECLARE_S = 30.0
"""How often a worker publishes the schedules of its code."""

WATCH_AGAIN_S = 5.0
"""How long to wait before the dynamic schedules are read again after an error."""

WATCH_PAUSE_S = 0.3
"""How long to wait after a change before the dynamic schedules can be read again."""

NO_REVISION = b""
"""The revision of a static schedule."""

CLOCK_REQUEST, WATCH_REQUEST, DECLARE_REQUEST = 0, 1, 2
FIRED_AGAIN, STALE = 2, 3
MOST_NAMES = 20
"""The most dynamic schedules to name in a log line."""


class Due:
    """Decides at each check which occurrence of one schedule to fire."""

    def __init__(self, moments: Occurrences, now_ms: int, drift_ms: int) -> None:
        self._moments = moments
        self._looked_ms = now_ms
        self._drift_ms = drift_ms
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
        return due if due is not None and now_ms - due <= self._drift_ms else None


class _Entry(NamedTuple):
    """A schedule that this worker fires."""

    plan: Plan
    revision: bytes
    due: Due

    @property
    def name(self) -> str:
        """Its name, for people."""
        return printable(self.plan[0])


def _moments(plan: Plan) -> Occurrences:
    """Return the occurrences of a schedule. Raises ValueError, with its name, if it has none."""
    name, spec, every_ms, zone = plan[0], *plan[3:6]
    try:
        return occurrences(spec, every_ms if spec is None else None, zone)
    except ValueError as error:
        raise ValueError(f"schedule of {name!r}: {error}") from error


def _readable(moment_ms: int) -> str:
    """Return a time in UTC, for people."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment_ms)
    return moment.isoformat(sep=" ", timespec="seconds" if moment_ms % 1000 == 0 else "milliseconds")


class Timer:
    """Fires the occurrences of schedules through a mailbox of its own, until `close`.

    `now_ms` returns the Redis time, and `paused` whether no occurrence should fire.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make_mailbox: Callable[[], Mailbox],
        schedules: Iterable[StaticSchedule],
        *,
        poll_s: float,
        now_ms: Callable[[], int],
        paused: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._make_mailbox = make_mailbox
        # This raises now what each occurrence would raise.
        self._plans = [static_plan(schedule) for schedule in schedules]
        self._static = [(plan, _moments(plan)) for plan in self._plans]
        self._poll_s = max(poll_s, MIN_SLEEP_S)
        self._now_ms = now_ms
        self._paused = paused
        self._entries: dict[str, _Entry] = {}
        self._loaded_ms: int | None = None
        self._asked: dict[int, tuple[_Entry, int]] = {}
        self._told_s: dict[str, float] = {}
        self._request_id = DECLARE_REQUEST
        self._handles: dict[str, asyncio.TimerHandle] = {}
        self._mailbox: Mailbox | None = None
        self._wakeup: WakeUp | None = None
        self._is_closed = False

    def start(self) -> None:
        """Read the schedules, and check them from then on. While no occurrence should fire, this
        does nothing; calling it twice is harmless.
        """
        if self._mailbox is not None or self._is_closed or self._paused():
            return
        mailbox = self._mailbox = self._make_mailbox()
        self._wakeup = WakeUp(self._loop, mailbox.fileno(), lambda: self._answered(mailbox))
        mailbox.watch(WATCH_REQUEST, None)
        if self._static:
            mailbox.clock(CLOCK_REQUEST)
            mailbox.declare(DECLARE_REQUEST, self._plans)

    def close(self) -> None:
        """Fire nothing more. Calling it twice is harmless."""
        self._is_closed = True
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
        if self._wakeup is not None and self._mailbox is not None:
            self._wakeup.close()
            self._wakeup = None
            self._mailbox.forget(WATCH_REQUEST)

    def _later(self, what: str, delay_s: float, step: Callable[..., object], *args: object) -> None:
        """Take a step after some time, in place of the last one of its kind."""
        if (handle := self._handles.get(what)) is not None:
            handle.cancel()
        self._handles[what] = self._loop.call_later(delay_s, step, *args)

    def _answered(self, mailbox: Mailbox) -> None:
        for request_id, answer in mailbox.drain():
            if request_id == CLOCK_REQUEST:
                self._know_time(mailbox, answer)
            elif request_id == WATCH_REQUEST:
                self._watched(mailbox, answer)
            elif request_id == DECLARE_REQUEST:
                self._declared(mailbox, answer)
            else:
                self._fired(*self._asked.pop(request_id), answer)

    # The schedules

    def _know_time(self, mailbox: Mailbox, answer: int | BaseException) -> None:
        if isinstance(answer, BaseException):
            self._later("clock", self._poll_s, mailbox.clock, CLOCK_REQUEST)
            return
        for plan, moments in self._static:
            self._entries[plan[0]] = _Entry(plan, NO_REVISION, Due(moments, answer, plan[7]))
        self._look(mailbox)

    def _declared(self, mailbox: Mailbox, answer: list[str] | BaseException) -> None:
        if isinstance(answer, BaseException):
            # The schedules fire anyway.
            log.debug("the schedules could not be published: %s", answer)
        else:
            for name in answer:
                log.warning("the schedule %s of the code has replaced the dynamic one of this name", printable(name))
        self._later("declare", DECLARE_S, mailbox.declare, DECLARE_REQUEST, self._plans)

    def _watched(self, mailbox: Mailbox, answer: Agenda | BaseException) -> None:
        if isinstance(answer, BaseException):
            self._tell("", "the dynamic schedules of the queue cannot be read: %s", answer)
            self._later("watch", WATCH_AGAIN_S, mailbox.watch, WATCH_REQUEST, None)
            return
        revision, now_ms, listed = answer
        # Many changes in a row are read together.
        self._later("watch", WATCH_PAUSE_S, mailbox.watch, WATCH_REQUEST, revision)
        if self._update(listed, now_ms):
            self._look(mailbox)

    def _update(self, listed: list[Scheduled], now_ms: int) -> bool:
        """Replace the dynamic schedules by those that Redis has now; return whether there are
        others than before.
        """
        # Between two reads, this worker has watched: it fires what became due after a change.
        since_ms = now_ms if self._loaded_ms is None else self._loaded_ms
        self._loaded_ms = now_ms
        own = {plan[0] for plan, _ in self._static}
        before = {name: entry for name, entry in self._entries.items() if name not in own}
        after: dict[str, _Entry] = {}
        for plan, revision, is_static, is_paused, changed_ms, _last in listed:
            name = plan[0]
            if is_static or is_paused or name in own:
                continue
            known = before.get(name)
            if known is not None and known.revision == revision:
                after[name] = known
                continue
            try:
                after[name] = _Entry(plan, revision, Due(_moments(plan), max(changed_ms, since_ms), plan[7]))
            except (ValueError, ArithmeticError) as error:  # a time zone that this machine does not know, for example
                self._tell(name, "this worker cannot fire %s", error)
        for name in before.keys() - after.keys():
            del self._entries[name]
        self._entries.update(after)
        self._tell_changes([*after.keys() - before.keys()], "fires the dynamic schedules")
        self._tell_changes([*before.keys() - after.keys()], "no longer fires the dynamic schedules")
        return after != before

    def _tell_changes(self, names: list[str], what: str) -> None:
        if names:
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            log.info("the worker %s %s%s", what, ", ".join(map(printable, sorted(names)[:MOST_NAMES])), more)

    # Their occurrences

    def _look(self, mailbox: Mailbox) -> None:
        if self._is_closed or not self._entries:
            return
        now = self._now_ms()
        paused = self._paused()
        for entry in self._entries.values():
            fire_ms = entry.due.look(now)
            if fire_ms is not None and not paused:
                self._fire(mailbox, entry, fire_ms)
        # Time may have passed while firing.
        wait_s = (min(entry.due.next_ms for entry in self._entries.values()) - self._now_ms()) / 1000
        self._later("look", min(max(wait_s, MIN_SLEEP_S), self._poll_s), self._look, mailbox)

    def _fire(self, mailbox: Mailbox, entry: _Entry, fire_ms: int) -> None:
        self._request_id += 1
        mailbox.fire(self._request_id, entry.plan, entry.revision, fire_ms, entry.due.next_ms - fire_ms)
        self._asked[self._request_id] = (entry, fire_ms)

    def _fired(self, entry: _Entry, fire_ms: int, answer: int | BaseException) -> None:
        if isinstance(answer, BaseException):
            text = f"schedule of %s could not be fired for {_readable(fire_ms)}: %s"
            self._tell(entry.name, text, entry.name, answer)
            entry.due.failed(fire_ms)
        elif answer not in (0, STALE):
            log.debug("schedule of %s fired for %s", entry.name, _readable(fire_ms))
        if answer == FIRED_AGAIN:
            log.warning(
                "schedule of %s was already fired for a time that is now in the future: the Redis clock was set back. "
                "The schedule continues from now, and may fire again for the same times",
                entry.name,
            )

    def _tell(self, name: str, text: str, *details: object) -> None:
        """Log a failure, rarely for each schedule: a refusal can last."""
        now_s = self._loop.time()
        told_s = self._told_s.get(name)
        if told_s is None or now_s - told_s >= REPEAT_S:
            self._told_s[name] = now_s
            log.warning(text, *details)

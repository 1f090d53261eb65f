"""The answers to a request that has several: the events of a job."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ardiq_core.shapes import EventRecord


class EventStream:
    """Holds the events that have arrived until the caller takes them.

    The bridge uses it like the future of a request, but it is not done before the last event, or an
    error. `give_up` is called when the caller stops earlier. If the caller is slow, events that
    differ only in their progress are merged into one.
    """

    __slots__ = ("_arrived", "_events", "_give_up", "_is_done")

    def __init__(self, give_up: Callable[[], object]) -> None:
        self._give_up = give_up
        self._events: deque[EventRecord | BaseException] = deque()
        self._arrived = asyncio.Event()
        self._is_done = False

    def done(self) -> bool:
        """Return whether the last event, or an error, has arrived."""
        return self._is_done

    def set_result(self, event: EventRecord) -> None:
        """Add an event."""
        state, tries, _progress, _result, self._is_done = event
        if self._events:
            unread = self._events[-1]
            if not isinstance(unread, BaseException) and unread[:2] == (state, tries):
                self._events.pop()
        self._add(event)

    def set_exception(self, error: BaseException) -> None:
        """Add the error that ends the events."""
        self._is_done = True
        self._add(error)

    def _add(self, event: EventRecord | BaseException) -> None:
        self._events.append(event)
        self._arrived.set()

    async def next(self) -> EventRecord:
        """Return the next event, or raise the error that ended them."""
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        event = self._events.popleft()
        if isinstance(event, BaseException):
            raise event
        return event

    def close(self) -> None:
        """Note that the caller takes no more events."""
        if not self._is_done:
            self._is_done = True
            self._give_up()

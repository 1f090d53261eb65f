"""Between one thread without an event loop and the engine: make a request, block for its answer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ardiq.errors import BrokerClosedError

if TYPE_CHECKING:
    from ardiq_core import Core, Mailbox

LOOK_MS = 1000
"""How often a waiting thread looks whether the core has been closed. The core itself bounds how long a call takes."""

AHEAD = 3
"""Requests that follow the one whose answer is awaited: while Redis works on one, the next is made."""

abandoned: list[object] = []
"""What belongs to the process that this one was forked from: never dropped, for its threads are not here to let go."""


class ThreadMailbox:
    """Serves one thread."""

    __slots__ = ("_answers", "_core", "_open", "_pid", "_port", "_ticket")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._port: Mailbox = core.mailbox()
        self._pid = os.getpid()
        self._ticket = 0
        self._open: set[int] = set()
        self._answers: dict[int, Any] = {}

    def ask(self, send: Callable[[Mailbox, int], None]) -> Any:
        """Make one request and wait for its answer; a signal's exception, such as KeyboardInterrupt, ends the wait."""
        return self.ask_in_turn((send,))[0]

    def ask_in_turn(self, sends: Iterable[Callable[[Mailbox, int], None]]) -> list[Any]:
        """Make requests, `AHEAD` of them under way at a time, and wait for all; the answers in order."""
        answers: list[Any] = []
        under_way: deque[int] = deque()
        try:
            for send in sends:
                ticket = self._ticket = self._ticket + 1
                self._open.add(ticket)
                under_way.append(ticket)
                send(self._port, ticket)
                if len(under_way) > AHEAD:
                    answers.append(self._answer(under_way[0]))
                    under_way.popleft()
            while under_way:
                answers.append(self._answer(under_way[0]))
                under_way.popleft()
        finally:
            for ticket in under_way:
                self._open.discard(ticket)
                if self._answers.pop(ticket, None) is None:
                    self._port.forget(ticket)
        return answers

    def _answer(self, ticket: int) -> Any:
        while ticket not in self._answers:
            self._receive()
        self._open.discard(ticket)
        answer = self._answers.pop(ticket)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _receive(self) -> None:
        events = self._port.block(LOOK_MS)
        if not events and self._core.closed:
            raise BrokerClosedError("the app's connection was closed")
        for ticket, answer in events:
            # A signal handler may make a request of its own while one waits: keep the answer to the other.
            if ticket in self._open:
                self._answers[ticket] = answer

    def __del__(self) -> None:
        # In a forked child the mailboxes of all other threads go before anything of ours can run.
        if os.getpid() != self._pid:
            abandoned.append(self._port)

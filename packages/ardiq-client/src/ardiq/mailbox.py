"""Between one thread without an event loop and the engine: make a request, block for its answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ardiq.errors import BrokerError

if TYPE_CHECKING:
    from ardiq_core import Core, Port

LOOK_MS = 1000
"""How often a waiting thread looks whether the core has been closed. The core itself bounds how long a call takes."""

abandoned: list[object] = []
"""What belongs to the process that this one was forked from: never dropped, for its threads are not here to let go."""


class ThreadMailbox:
    """Serves one thread."""

    __slots__ = ("_answers", "_core", "_open", "_pid", "_port", "_ticket")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._port: Port = core.port()
        self._pid = os.getpid()
        self._ticket = 0
        self._open: set[int] = set()
        self._answers: dict[int, Any] = {}

    def ask(self, send: Callable[[Port, int], None]) -> Any:
        """Make one request and wait for its answer; a signal's exception, such as KeyboardInterrupt, ends the wait."""
        ticket = self._ticket = self._ticket + 1
        self._open.add(ticket)
        answered = False
        try:
            send(self._port, ticket)
            while ticket not in self._answers:
                self._receive()
            answered = True
        finally:
            self._open.discard(ticket)
            answer = self._answers.pop(ticket, None)
            if not answered:
                self._port.forget(ticket)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _receive(self) -> None:
        events = self._port.block(LOOK_MS)
        if not events and self._core.closed:
            raise BrokerError("the app's connection was closed")
        for ticket, answer in events:
            # A signal handler may make a request of its own while one waits: keep the answer to the other.
            if ticket in self._open:
                self._answers[ticket] = answer

    def __del__(self) -> None:
        # In a forked child the mailboxes of all other threads go before anything of ours can run.
        if os.getpid() != self._pid:
            abandoned.append(self._port)

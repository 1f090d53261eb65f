"""Requests and replies of one thread without an event loop: make a request, block until its reply
arrives.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ardiq._core import CLOSED, LOGS, add_hint, in_order
from ardiq.errors import BrokerClosedError

if TYPE_CHECKING:
    from ardiq._core import Request
    from ardiq_core import Core, Mailbox

LOOK_MS = 1000
"""How often a waiting thread checks whether the core has been closed.

The core itself limits how long a call takes.
"""

abandoned: list[object] = []
"""Objects of the process that this one was forked from.

They are never dropped: dropping them would wait for threads that do not exist in this process.
"""


class ThreadBridge:
    """Serves one thread."""

    __slots__ = ("_answers", "_core", "_hint", "_mailbox", "_open", "_pid", "_request_id")

    def __init__(self, core: Core, hint: str) -> None:
        self._core = core
        self._hint = hint
        self._mailbox: Mailbox = core.mailbox(with_logs=True)
        self._pid = os.getpid()
        self._request_id = 0
        self._open: set[int] = set()
        self._answers: dict[int, Any] = {}

    def ask(self, request: Request, limit_s: float | None = None) -> Any:
        """Make one request and wait for its answer; a signal's exception, such as
        KeyboardInterrupt, ends the wait.

        Returns None if there is no answer within `limit_s`.
        """
        request_id = self._send(request)
        try:
            if limit_s is not None and not self._arrives(request_id, limit_s):
                self._give_up(request_id)
                return None
            return self._answer(request_id)
        except BaseException:
            self._give_up(request_id)
            raise

    def ask_in_order(self, requests: Iterable[Request]) -> list[Any]:
        """Make requests, several in flight at a time, and wait for all.

        The answers are in order.
        """
        steps = in_order(requests, self._send, self._give_up)
        try:
            request_id = next(steps)
            while True:
                request_id = steps.send(self._answer(request_id))
        except StopIteration as end:
            answers: list[Any] = end.value
            return answers
        finally:
            steps.close()

    def _send(self, request: Request) -> int:
        request_id = self._request_id = self._request_id + 1
        self._open.add(request_id)
        try:
            request(self._mailbox, request_id)
        except BaseException:
            self._give_up(request_id)
            raise
        return request_id

    def _give_up(self, request_id: int) -> None:
        self._open.discard(request_id)
        if self._answers.pop(request_id, None) is None:
            self._mailbox.forget(request_id)

    def _answer(self, request_id: int) -> Any:
        while request_id not in self._answers:
            self._receive()
        answer = self._answers[request_id]
        if isinstance(answer, BaseException):
            add_hint(answer, self._hint)
            raise answer
        self._open.discard(request_id)
        del self._answers[request_id]
        return answer

    def _arrives(self, request_id: int, limit_s: float) -> bool:
        end = time.monotonic() + limit_s
        while request_id not in self._answers:
            left_ms = math.ceil((end - time.monotonic()) * 1000)
            if left_ms <= 0:
                return False
            self._receive(min(left_ms, LOOK_MS))
        return True

    def _receive(self, most_ms: int = LOOK_MS) -> None:
        events = self._mailbox.block(most_ms)
        if not events and self._core.closed:
            raise BrokerClosedError(CLOSED)
        lines: Any = None
        for request_id, answer in events:
            # A signal handler may make a request of its own during a wait. Keep the answer to the
            # other request.
            if request_id in self._open:
                self._answers[request_id] = answer
            elif request_id == LOGS:
                lines = answer
        if lines:
            from ardiq._core.logs import forward

            forward(lines)

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        # In a forked child the bridges of all other threads are dropped before any of our code can
        # run. At the end of the interpreter, the names of this module are gone.
        if getpid() != self._pid:
            abandoned.append(self._mailbox)


def check_thread(call: str, *, waits: bool = False) -> None:
    """Warn when the thread has a running event loop, or raise RuntimeError if the call `waits` for
    a job.

    The call would block that loop. A worker on it could not run the job, and the wait would last
    until its timeout.
    """
    asyncio = sys.modules.get("asyncio.events")
    if asyncio is None or asyncio._get_running_loop() is None:  # the public function raises instead of returning None
        return
    if waits:
        raise RuntimeError(
            f"{call}_sync() with a timeout would block this thread's event loop, and a worker on it, until there is a "
            f"result; await {call}(), or call it in another thread, as with asyncio.to_thread"
        )
    warnings.warn(
        f"{call}_sync() blocks this thread's event loop for as long as Redis takes to answer; await {call}()",
        RuntimeWarning,
        stacklevel=_level_of_caller(),
    )


def _level_of_caller() -> int:
    """Return the stack level of the first frame outside the client."""
    from inspect import currentframe

    level, frame = 0, currentframe()
    while frame is not None and str(frame.f_globals.get("__package__")).partition(".")[0] == "ardiq":
        level, frame = level + 1, frame.f_back
    return level

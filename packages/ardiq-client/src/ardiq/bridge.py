"""Between one event loop and the engine: requests go in at once, answers come back when the bell rings.

All enqueues of one turn of the loop leave in one request; all answers that are there when the loop looks are taken in
one call. The loop is woken by a file descriptor, or, where it cannot watch one, by a thread that does.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, cast

from ardiq.bell import Bell
from ardiq.errors import BrokerClosedError
from ardiq.job import Job
from ardiq.mailbox import AHEAD

if TYPE_CHECKING:
    from ardiq.app import Ardiq
    from ardiq_core import Core, Mailbox
    from ardiq_core.shapes import Submission


class _Batch:
    __slots__ = ("app", "futures")

    def __init__(self, app: Ardiq, futures: list[Future[Job[Any]]]) -> None:
        self.app = app
        self.futures = futures


class LoopBridge:
    """Serves one event loop. Only that loop's thread may call it, `detach` apart."""

    __slots__ = ("__weakref__", "_bell", "_futures", "_jobs", "_port", "_ticket", "_waiting", "loop")

    def __init__(self, core: Core, loop: AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)  # weak: an app must not keep alive the loops that it has served
        self._port: Mailbox = core.mailbox()
        self._ticket = 0
        self._waiting: dict[int, _Batch | Future[Any]] = {}
        self._jobs: list[Submission] = []
        self._futures: list[Future[Job[Any]]] = []
        self._bell = Bell(loop, self._port.fileno(), self._drain)

    def enqueue(self, app: Ardiq, loop: AbstractEventLoop, submission: Submission) -> Generator[Any, None, Job[Any]]:
        """Hand in one job with all others of this turn; gives the steps of waiting for it."""
        future: Future[Job[Any]] = loop.create_future()
        jobs = self._jobs
        if not jobs:
            loop.call_soon(self._flush, app)
        jobs.append(submission)
        self._futures.append(future)
        return future.__await__()

    async def ask(self, send: Callable[[Mailbox, int], None]) -> Any:
        """Make one request and wait for its answer."""
        return (await self.ask_in_turn((send,)))[0]

    async def ask_in_turn(self, sends: Iterable[Callable[[Mailbox, int], None]]) -> list[Any]:
        """Make requests, `AHEAD` of them under way at a time, and wait for all; the answers in order."""
        loop, answers = asyncio.get_running_loop(), list[Any]()
        under_way: deque[tuple[int, Future[Any]]] = deque()
        try:
            for send in sends:
                ticket = self._ticket = self._ticket + 1
                future = self._waiting[ticket] = loop.create_future()
                under_way.append((ticket, future))
                send(self._port, ticket)
                if len(under_way) > AHEAD:
                    answers.append(await under_way[0][1])
                    under_way.popleft()
            while under_way:
                answers.append(await under_way[0][1])
                under_way.popleft()
        finally:
            for ticket, future in under_way:
                if self._waiting.pop(ticket, None) is not None:  # the caller has given up, or nothing was sent
                    self._port.forget(ticket)
                elif future.done() and not future.cancelled():
                    future.exception()  # one error is enough, and it is on its way
        return answers

    def detach(self) -> None:
        """Stop watching the descriptor; whoever still waits gets an error."""
        loop = self.loop()
        self._bell.close()
        waiting, self._waiting = self._waiting, {}
        if loop is not None and not loop.is_closed():
            for waiter in waiting.values():
                self._settle(waiter, BrokerClosedError("the app's connection was closed"))

    def _flush(self, app: Ardiq) -> None:
        jobs, futures = self._jobs, self._futures
        self._jobs, self._futures = [], []
        if any(future.cancelled() for future in futures):  # given up in the turn in which it was made: not sent
            kept = [index for index, future in enumerate(futures) if not future.cancelled()]
            jobs, futures = [jobs[index] for index in kept], [futures[index] for index in kept]
            if not jobs:
                return
        ticket = self._ticket = self._ticket + 1
        batch = self._waiting[ticket] = _Batch(app, futures)
        try:
            self._port.enqueue(ticket, jobs)
        except Exception as error:  # noqa: BLE001 - it goes to those who wait
            del self._waiting[ticket]
            self._settle(batch, error)

    def _drain(self) -> None:
        waiting = self._waiting
        for ticket, answer in self._port.drain():
            waiter = waiting.pop(ticket, None)
            if waiter is not None:
                self._settle(waiter, answer)

    def _settle(self, waiter: _Batch | Future[Any], answer: Any) -> None:
        failed = isinstance(answer, BaseException)
        if not isinstance(waiter, _Batch):
            if waiter.done():
                return
            if failed:
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)
        elif failed or type(answer) is tuple:
            # A tuple has an exception in place of the id of each job that was not accepted.
            answers = cast("Iterable[Any]", [answer] * len(waiter.futures) if failed else answer)
            for future, one in zip(waiter.futures, answers, strict=True):
                if future.done():
                    continue
                if isinstance(one, BaseException):
                    # One each: raising adds to an exception's traceback.
                    future.set_exception(type(one)(*one.args))
                else:
                    future.set_result(Job(waiter.app, one))
        else:
            app = waiter.app
            for future, job_id in zip(waiter.futures, answer, strict=True):
                if not future.done():
                    future.set_result(Job(app, job_id))

"""Requests and replies of one event loop.

All enqueues of one turn of the loop are sent in one request. All answers that have arrived when the
loop is woken are taken in one call. The loop is woken through a file descriptor; if the loop cannot
watch one, a thread does.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio import AbstractEventLoop, Future
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, cast

from ardiq._core import CLOSED, LOGS, add_hint, in_order
from ardiq._core.event_stream import EventStream
from ardiq._core.wakeup import WakeUp
from ardiq.errors import BrokerClosedError
from ardiq.job import Job

if TYPE_CHECKING:
    from ardiq._core import Request
    from ardiq.app import Ardiq
    from ardiq_core import Core, Mailbox
    from ardiq_core.shapes import Submission


class _Batch:
    __slots__ = ("app", "futures")

    def __init__(self, app: Ardiq, futures: list[Future[Job[Any]]]) -> None:
        self.app = app
        self.futures = futures


class LoopBridge:
    """Serves one event loop. Only the thread of that loop may call it, except for `detach`."""

    __slots__ = (
        "__weakref__",
        "_futures",
        "_hint",
        "_mailbox",
        "_request_id",
        "_submissions",
        "_waiting",
        "_wakeup",
        "loop",
    )

    def __init__(self, core: Core, loop: AbstractEventLoop, hint: str) -> None:
        self._hint = hint
        self.loop = weakref.ref(loop)  # weak: an app must not keep alive the loops that it has served
        self._mailbox: Mailbox = core.mailbox(with_logs=True)
        self._request_id = 0
        self._waiting: dict[int, _Batch | Future[Any] | EventStream] = {}
        self._submissions: list[Submission] = []
        self._futures: list[Future[Job[Any]]] = []
        self._wakeup = WakeUp(loop, self._mailbox.fileno(), self._drain)

    def enqueue(self, app: Ardiq, loop: AbstractEventLoop, submission: Submission) -> Generator[Any, None, Job[Any]]:
        """Submit one job together with all others of this turn; return an iterator that waits for
        it.
        """
        future: Future[Job[Any]] = loop.create_future()
        submissions = self._submissions
        if not submissions:
            loop.call_soon(self._flush, app)
        submissions.append(submission)
        self._futures.append(future)
        return future.__await__()

    async def ask(self, request: Request, limit_s: float | None = None) -> Any:
        """Make one request and wait for its answer; return None if there is none within
        `limit_s`.
        """
        sent = self._send(request)
        timer = None if limit_s is None else sent[1].get_loop().call_later(limit_s, _end_wait, sent[1])
        try:
            return await sent[1]
        finally:
            if timer is not None:
                timer.cancel()
            self._give_up(sent)

    def stream(self, request: Request) -> EventStream:
        """Make one request with several answers."""
        request_id = self._request_id = self._request_id + 1

        def give_up() -> None:
            if self._waiting.pop(request_id, None) is not None:
                self._mailbox.forget(request_id)

        stream = self._waiting[request_id] = EventStream(give_up)
        try:
            request(self._mailbox, request_id)
        except BaseException:
            del self._waiting[request_id]
            raise
        return stream

    async def ask_in_order(self, requests: Iterable[Request]) -> list[Any]:
        """Make requests, several in flight at a time, and wait for all.

        The answers are in order.
        """
        steps = in_order(requests, self._send, self._give_up)
        try:
            sent = next(steps)
            while True:
                sent = steps.send(await sent[1])
        except StopIteration as end:
            answers: list[Any] = end.value
            return answers
        finally:
            steps.close()

    def detach(self) -> None:
        """Stop watching the descriptor. All calls that still wait raise an error."""
        loop = self.loop()
        self._wakeup.close()
        waiting, self._waiting = self._waiting, {}
        if loop is not None and not loop.is_closed():
            for waiter in waiting.values():
                self._resolve(waiter, BrokerClosedError(CLOSED))

    def _send(self, request: Request) -> tuple[int, Future[Any]]:
        request_id = self._request_id = self._request_id + 1
        future = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            request(self._mailbox, request_id)
        except BaseException:
            del self._waiting[request_id]
            raise
        return request_id, future

    def _give_up(self, sent: tuple[int, Future[Any]]) -> None:
        request_id, future = sent
        if self._waiting.pop(request_id, None) is not None:  # the caller has been cancelled
            self._mailbox.forget(request_id)
        elif future.done() and not future.cancelled():
            future.exception()  # the caller gets one error only; this marks the others as retrieved

    def _flush(self, app: Ardiq) -> None:
        submissions, futures = self._submissions, self._futures
        self._submissions, self._futures = [], []
        if any(future.cancelled() for future in futures):  # do not send what was cancelled in the same turn
            kept = [index for index, future in enumerate(futures) if not future.cancelled()]
            submissions, futures = [submissions[index] for index in kept], [futures[index] for index in kept]
            if not submissions:
                return
        request_id = self._request_id = self._request_id + 1
        batch = self._waiting[request_id] = _Batch(app, futures)
        try:
            self._mailbox.enqueue(request_id, submissions)
        except Exception as error:  # noqa: BLE001 - it goes to the callers that wait
            del self._waiting[request_id]
            self._resolve(batch, error)

    def _drain(self) -> None:
        waiting = self._waiting
        for request_id, answer in self._mailbox.drain():
            waiter = waiting.pop(request_id, None)
            if waiter is not None:
                try:
                    self._resolve(waiter, answer)
                except Exception as error:  # noqa: BLE001 - the other callers still get their answers
                    self._resolve(waiter, error)
                if type(waiter) is EventStream and not waiter.done():
                    waiting[request_id] = waiter
            elif request_id == LOGS:
                from ardiq._core.logs import forward

                asyncio.get_running_loop().call_soon(forward, answer)

    def _resolve(self, waiter: _Batch | Future[Any] | EventStream, answer: Any) -> None:
        failed = isinstance(answer, BaseException)
        if failed:
            add_hint(answer, self._hint)
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
                    # Each caller gets its own copy, because raising an exception extends its
                    # traceback.
                    future.set_exception(type(one)(*one.args))
                else:
                    future.set_result(Job(waiter.app, one))
        else:
            app = waiter.app
            for future, job_id in zip(waiter.futures, answer, strict=True):
                if not future.done():
                    future.set_result(Job(app, job_id))


def _end_wait(future: Future[Any]) -> None:
    if not future.done():
        future.set_result(None)

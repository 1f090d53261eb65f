"""The link of one app to the engine: made on first use, one bridge per event loop, one mailbox per thread."""

from __future__ import annotations

import atexit
import math
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from ardiq.blocking import check_thread
from ardiq.errors import BrokerClosedError
from ardiq.mailbox import ThreadMailbox, abandoned
from ardiq_core import Core, interpreter_ends

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ardiq.app import Ardiq
    from ardiq.bridge import LoopBridge
    from ardiq.job import Job
    from ardiq_core import Mailbox
    from ardiq_core.shapes import Submission

Send = Callable[["Mailbox", int], None]


class Connection:
    """Cheap to make; nothing happens before the first request. Serves any number of loops and threads."""

    __slots__ = (
        "__weakref__",
        "_bridge",
        "_bridges",
        "_closed",
        "_core",
        "_local",
        "_lock",
        "_make",
        "_pid",
        "_running_loop",
    )

    def __init__(
        self, url: str, queue: str, lanes: Sequence[str], connect_timeout_s: float, *, allow_eviction: bool = False
    ) -> None:
        def make() -> Core:
            return Core(
                url=url,
                queue=queue,
                lanes=lanes,
                connect_timeout_ms=math.ceil(connect_timeout_s * 1000),
                allow_eviction=allow_eviction,
            )

        self._make = make
        self._running_loop: Callable[[], AbstractEventLoop] = self._first_loop
        self._reset()
        _connections.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._core: Core | None = None
        self._pid = os.getpid()
        self._bridge: LoopBridge | None = None  # the one used last: most apps have one
        self._bridges: weakref.WeakKeyDictionary[AbstractEventLoop, LoopBridge] = weakref.WeakKeyDictionary()
        self._local = threading.local()

    def core(self) -> Core:
        """The core of this process, made if there is none."""
        if self._pid != os.getpid():
            self.forget()  # forked by something that did not tell Python
        core = self._core
        if core is None:
            with self._lock:
                if self._closed:
                    raise BrokerClosedError("the app's connection is closed: the interpreter is about to exit")
                core = self._core
                if core is None:
                    core = self._core = self._make()
        return core

    def enqueue(self, app: Ardiq, submission: Submission) -> Generator[Any, Any, Job[Any]]:
        """Hand in one job from the running loop; gives the steps of waiting for it."""
        loop = self._running_loop()
        bridge = self._bridge
        if bridge is None or bridge.loop() is not loop:
            bridge = self._bridge_of(loop)
        return bridge.enqueue(app, loop, submission)

    def enqueue_sync(self, submission: Submission) -> str:
        """Hand in one job from a thread without a loop; gives its id."""
        ids: list[str] = self.ask_sync(_enqueue([submission]), "enqueue")
        return ids[0]

    async def enqueue_many(self, chunks: Iterable[list[Submission]]) -> list[list[str]]:
        """Hand in jobs from the running loop, several chunks under way at a time; gives their ids."""
        return _all_ids(await self._bridge_of(self._running_loop()).ask_in_turn(map(_enqueue, chunks)))

    def enqueue_many_sync(self, chunks: Iterable[list[Submission]]) -> list[list[str]]:
        """As `enqueue_many`, from a thread without a loop."""
        check_thread("enqueue_many")
        return _all_ids(self._mailbox().ask_in_turn(map(_enqueue, chunks)))

    async def ask(self, send: Send) -> Any:
        """Make one request from the running loop and wait for the answer."""
        return await self._bridge_of(self._running_loop()).ask(send)

    def ask_sync(self, send: Send, call: str = "ask", *, waits: bool = False) -> Any:
        """Make one request from a thread without a loop and wait for the answer, which may be that to a job."""
        check_thread(call, waits=waits)
        return self._mailbox().ask(send)

    def close(self) -> None:
        """End the connection for good: the app is gone, or the interpreter exits. From any thread, at most 2 s."""
        with self._lock:
            self._closed = True
            core, self._core = self._core, None
            bridges = list(self._bridges.values())
            self._bridges.clear()
            self._bridge = None
        if core is None or self._pid != os.getpid():
            return
        for bridge in bridges:
            loop = bridge.loop()
            if loop is not None and not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(bridge.detach)
                except RuntimeError:  # closed in between
                    continue
        core.close()

    def forget(self) -> None:
        """Leave all that the parent process has made alone, and start afresh: for a forked child."""
        abandoned.append(
            (self._core, self._bridge, self._bridges, list(self._bridges.values()), self._local, self._lock)
        )
        self._reset()

    def _first_loop(self) -> AbstractEventLoop:
        # asyncio is loaded on the first use of a loop: code that only uses the blocking calls never needs it.
        from asyncio import get_running_loop

        self._running_loop = get_running_loop
        return get_running_loop()

    def _mailbox(self) -> ThreadMailbox:
        """That of the present thread."""
        core = self.core()
        known: tuple[Core, ThreadMailbox] | None = getattr(self._local, "mailbox", None)
        if known is None or known[0] is not core:
            known = self._local.mailbox = (core, ThreadMailbox(core))
        return known[1]

    def _bridge_of(self, loop: AbstractEventLoop) -> LoopBridge:
        from ardiq.bridge import LoopBridge

        core = self.core()
        with self._lock:
            bridge = self._bridges.get(loop)
            if bridge is None:
                for other in [other for other in self._bridges if other.is_closed()]:
                    del self._bridges[other]
                bridge = self._bridges[loop] = LoopBridge(core, loop)
            self._bridge = bridge
        return bridge


def _all_ids(answers: list[Any]) -> list[list[str]]:
    """Return the ids of chunks, or raise the first error of a chunk of which only some jobs were accepted."""
    for answer in answers:
        if type(answer) is tuple:
            raise next(one for one in cast("tuple[object, ...]", answer) if isinstance(one, BaseException))
    return answers


def _enqueue(jobs: list[Submission]) -> Send:
    return lambda port, ticket: port.enqueue(ticket, jobs)


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def finalize(app: Ardiq, connection: Connection) -> None:
    """Have the connection closed with its app, at the latest when the interpreter ends."""
    weakref.finalize(app, connection.close)
    # What is registered last is called first, so this stands behind the first finalizer: threads that wait for answers must
    # not be woken by the closing of their connections.
    atexit.unregister(interpreter_ends)
    atexit.register(interpreter_ends)


def _after_fork() -> None:
    for connection in list(_connections):
        connection.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

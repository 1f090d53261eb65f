"""The connection of one app to the engine, with one bridge for each event loop and each thread."""

from __future__ import annotations

import atexit
import math
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from ardiq._core import enqueue
from ardiq._core.thread_bridge import ThreadBridge, abandoned, check_thread
from ardiq.errors import BrokerClosedError
from ardiq_core import Core, interpreter_ends

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ardiq._core import Request
    from ardiq._core.event_stream import EventStream
    from ardiq._core.loop_bridge import LoopBridge
    from ardiq.app import Ardiq
    from ardiq.job import Job
    from ardiq_core.shapes import Submission


class Connection:
    """The connection of one app to the engine. It serves all event loops and threads.

    It is cheap to create, and does nothing before the first request.

    `locate` is called before each core is created, and may set the URL in `options`. It returns
    what to add to an error about an unreachable server.
    """

    __slots__ = (
        "__weakref__",
        "_bridge",
        "_bridges",
        "_closed",
        "_core",
        "_local",
        "_locate",
        "_lock",
        "_make",
        "_pid",
        "_running_loop",
        "hint",
        "is_looking",
    )

    def __init__(self, options: Mapping[str, Any], locate: Callable[[], str] | None = None) -> None:
        def make() -> Core:
            return Core(
                url=options["redis_url"],
                queue=options["queue_name"],
                lanes=options["priorities"],
                connect_timeout_ms=math.ceil(options["connect_timeout_s"] * 1000),
                allow_eviction=options["allow_eviction"],
            )

        self._make = make
        self._locate = locate
        self._running_loop: Callable[[], AbstractEventLoop] = self._first_loop
        self._reset()
        _connections.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._core: Core | None = None
        self._pid = os.getpid()
        self._bridge: LoopBridge | None = None  # the last one used; most apps have only one
        self._bridges: weakref.WeakKeyDictionary[AbstractEventLoop, LoopBridge] = weakref.WeakKeyDictionary()
        self._local = threading.local()
        self.hint = ""
        """What to add to an error about an unreachable server."""
        self.is_looking = False
        """Whether a caller whose wait timed out is looking up its job."""

    def core(self) -> Core:
        """Return the core of this process. Creates it on first use."""
        if self._pid != os.getpid():
            self.forget()  # forked by something that did not tell Python
        core = self._core
        if core is None:
            if self._locate is not None:
                self.hint = self._locate()  # without the lock: it logs, and a log handler may use the app
            with self._lock:
                if self._closed:
                    raise BrokerClosedError("the app's connection is closed: the interpreter is about to exit")
                core = self._core
                if core is None:
                    core = self._core = self._make()
        return core

    def enqueue(self, app: Ardiq, submission: Submission) -> Generator[Any, Any, Job[Any]]:
        """Submit one job from the running loop; return an iterator that waits for it."""
        loop = self._running_loop()
        bridge = self._bridge
        if bridge is None or bridge.loop() is not loop:
            bridge = self._bridge_of(loop)
        return bridge.enqueue(app, loop, submission)

    def enqueue_sync(self, submission: Submission) -> str:
        """Submit one job from a thread without a loop; return its id."""
        ids: list[str] = self.ask_sync(enqueue([submission]), "enqueue")
        return ids[0]

    async def enqueue_many(self, chunks: Iterable[list[Submission]]) -> list[list[str]]:
        """Submit jobs from the running loop, several chunks in flight at a time; return their
        ids.
        """
        return _all_ids(await self._bridge_of(self._running_loop()).ask_in_order(map(enqueue, chunks)))

    def enqueue_many_sync(self, chunks: Iterable[list[Submission]]) -> list[list[str]]:
        """Blocking version of `enqueue_many`, for a thread without a loop."""
        check_thread("enqueue_many")
        return _all_ids(self._thread_bridge().ask_in_order(map(enqueue, chunks)))

    async def ask(self, request: Request, limit_s: float | None = None) -> Any:
        """Make one request from the running loop and wait for the answer.

        Returns None if there is no answer within `limit_s`.
        """
        return await self._bridge_of(self._running_loop()).ask(request, limit_s)

    def stream(self, request: Request) -> EventStream:
        """Make one request with several answers from the running loop."""
        return self._bridge_of(self._running_loop()).stream(request)

    def ask_sync(
        self, request: Request, call: str = "ask", *, waits: bool = False, limit_s: float | None = None
    ) -> Any:
        """Make one request from a thread without a loop and wait for the answer.

        Args:
            request: What to ask.
            call: The name of the public method, without `_sync`, for warnings and errors.
            waits: Whether the answer may take as long as a job does.
            limit_s: Return None if there is no answer within this time.
        """
        check_thread(call, waits=waits)
        return self._thread_bridge().ask(request, limit_s)

    def close(self) -> None:
        """Close the connection for good: the app is gone, or the interpreter exits.

        Any thread may call it; takes 2 s at most.
        """
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
        """Forget the objects of the parent process. This is called in a forked child."""
        abandoned.append(
            (self._core, self._bridge, self._bridges, list(self._bridges.values()), self._local, self._lock)
        )
        self._reset()

    def _first_loop(self) -> AbstractEventLoop:
        # Load asyncio on the first use of a loop: code that only makes blocking calls never needs
        # it.
        from asyncio import get_running_loop

        self._running_loop = get_running_loop
        return get_running_loop()

    def _thread_bridge(self) -> ThreadBridge:
        """Return the bridge of the current thread."""
        core = self.core()
        known: tuple[Core, ThreadBridge] | None = getattr(self._local, "bridge", None)
        if known is None or known[0] is not core:
            known = self._local.bridge = (core, ThreadBridge(core, self.hint))
        return known[1]

    def _bridge_of(self, loop: AbstractEventLoop) -> LoopBridge:
        from ardiq._core.loop_bridge import LoopBridge

        core = self.core()
        with self._lock:
            bridge = self._bridges.get(loop)
            if bridge is None:
                for other in [other for other in self._bridges if other.is_closed()]:
                    del self._bridges[other]
                bridge = self._bridges[loop] = LoopBridge(core, loop, self.hint)
            self._bridge = bridge
        return bridge


def _all_ids(answers: list[Any]) -> list[list[str]]:
    """Return the ids of chunks, or raise the first error of a chunk of which only some jobs were
    accepted.
    """
    for answer in answers:
        if type(answer) is tuple:
            raise next(one for one in cast("tuple[object, ...]", answer) if isinstance(one, BaseException))
    return answers


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def finalize(app: Ardiq, connection: Connection) -> None:
    """Close the connection when its app is gone, at the latest when the interpreter ends."""
    weakref.finalize(app, connection.close)
    # Functions that are registered last are called first. So this one comes after the first
    # finalizer: closing the connections must not wake the threads that wait for answers.
    atexit.unregister(interpreter_ends)
    atexit.register(interpreter_ends)


def _after_fork() -> None:
    for connection in list(_connections):
        connection.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""An executor on a real loop, without a server: for the worker's tests of how one job runs."""

import asyncio
from collections.abc import Callable
from typing import Any

from ardiq import Ardiq
from ardiq.host import Host
from ardiq_core import SUCCESS
from ardiq_worker.execute import Executor
from ardiq_worker.outcome import Verdict
from ardiq_worker.threads import ThreadPool


class AlwaysMay:
    """An engine whose deferred runs may always start."""

    def begin(self, slot: int) -> bool:
        return True


class Bench:
    """An app, an executor for it, and the outcomes in the order of their arrival."""

    def __init__(self, cancel_wait_s: float = 10.0, app: Ardiq | None = None) -> None:
        self.app = app or Ardiq("redis://localhost:1", concurrency=4)
        self.threads = ThreadPool(asyncio.get_running_loop(), 4)
        self.outcomes: asyncio.Queue[Verdict] = asyncio.Queue()
        self.flushes = 0
        host = Host(self.app)
        self.executor = Executor(
            asyncio.get_running_loop(),
            self.threads,
            self.flush,
            AlwaysMay(),
            tasks=host.tasks,
            codec=host.codec,
            queue=self.app.queue_name,
            cancel_wait_s=cancel_wait_s,
        )
        self._slots = 0

    def flush(self) -> None:
        self.flushes += 1
        for one in self.executor.take_outcomes():
            self.outcomes.put_nowait(Verdict._make(one))

    def start(
        self, name: str, *args: Any, tries: int = 1, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> int:
        self._slots += 1
        if body is None:
            body = self.app._codec.encode_call(args, {})
        self.executor.start((self._slots, f"id-{self._slots}", name, body, tries, 1234, headers, "default", None))
        return self._slots

    async def next(self) -> Verdict:
        async with asyncio.timeout(10):
            return await self.outcomes.get()

    async def run(self, fn: Callable[..., Any], *args: Any, tries: int = 1, **options: Any) -> Verdict:
        self.app.task(**{"name": f"task-{self._slots}", **options})(fn)
        slot = self.start(options.get("name", f"task-{self._slots}"), *args, tries=tries)
        outcome = await self.next()
        assert outcome.slot == slot
        assert self.executor.running == 0
        return outcome

    def value(self, outcome: Verdict) -> Any:
        assert outcome.kind == SUCCESS, outcome
        assert isinstance(outcome.value, bytes)
        return self.app._codec.decode_value(outcome.value)

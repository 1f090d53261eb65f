"""A producer of the run: `python -m tests.chaos.producer`. It notes its calls and their results.

SIGTERM ends it: it stops calling, waits for the results of its calls, and exits with status 0.
"""

import asyncio
import signal
import uuid
from random import Random
from typing import Any, NamedTuple

from ardiq import Ardiq, ArdiqError, Job, TaskResult
from ardiq.task import Task
from tests.chaos.journal import Journal
from tests.chaos.settings import Settings

WAIT_S = 600.0
LAST_WAIT_S = 20.0
"""How long a stopping producer waits for results. No job takes longer, including its delay, its run
and a recovery.
"""

REFUSED = "Redis refused"
"""The prefix of the error for a call that the server refused."""


class Call(NamedTuple):
    """A call of a task."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def value(self) -> object:
        """The argument that the task must return."""
        return self.args[0]


def answer(value: object) -> object:
    """Return the argument of a task, which it must return, from its result."""
    return value["value"] if isinstance(value, dict) else value


def described(result: TaskResult[Any]) -> dict[str, Any]:
    """A result as the journal has it."""
    return {
        "success": result.success,
        "value": answer(result.value) if result.success else str(result.value),
        "tries": result.tries,
        "worker": result.worker_id,
    }


class Producer:
    """Calls tasks of every kind at a steady rate."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._random = Random(settings.seed)
        self._journal = Journal(settings.journal)
        self._app = Ardiq(settings.url, settings.queue, settings.lanes, **settings.options)
        self._stop = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._waiting: list[str] = []

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        while not self._stop.is_set():
            # Several at a time, and sometimes many: calls of one turn of the loop are sent
            # together.
            for _ in range(self._random.choice([1, 1, 2, 5])):
                self._begin(self._one())
            if self._random.random() < 0.05:
                self._begin(self._many(self._random.choice([3, 20])))
            try:
                await asyncio.wait_for(self._stop.wait(), self._random.expovariate(self._settings.rate / 2.25))
            except TimeoutError:
                continue
        if self._calls:
            await asyncio.wait(self._calls, timeout=LAST_WAIT_S)
        for job in self._waiting:
            self._journal.note("untold", job, error=f"nothing came within {LAST_WAIT_S:g} s", by_server=False)

    def _begin(self, call: Any) -> None:
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _call(self) -> Call:
        """Return a random call."""
        pick, lease_s = self._random.random(), self._settings.lease_s
        value = self._random.getrandbits(31)
        options: dict[str, Any] = {"priority": self._random.choice(self._settings.lanes)}
        if self._random.random() < 0.15:
            options["delay_ms"] = self._random.randint(1, int(1500 * lease_s))
        if pick < 0.35:
            return Call("echo", (value,), options)
        if pick < 0.55:
            return Call("nap", (value, self._random.uniform(0.005, 0.3)), options)
        if pick < 0.70:
            return Call("nap", (value, self._random.uniform(0.5, 2.0) * lease_s), options)
        if pick < 0.80:
            return Call("thread", (value, self._random.uniform(0.001, 0.2)), options)
        if pick < 0.90:
            return Call("flaky", (value, self._random.choice(["retry", "raise"])), options)
        if pick < 0.95:
            return Call("large", (value, self._random.randbytes(self._random.choice([5_000, 40_000]))), options)
        return Call("nap", (value % 5, 0.05), {"unique": True})

    def _ref(self, call: Call) -> Task[..., Any] | Any:
        return self._app.ref(call.name).options(**call.options)

    async def _one(self) -> None:
        call = self._call()
        own = ""
        if not call.options.get("unique") and self._random.random() < 0.5:
            own = call.options["task_id"] = uuid.UUID(int=self._random.getrandbits(128)).hex
            self._journal.note("ask", own, value=call.value)
        waits = self._random.random() < 0.3
        try:
            job = await self._ref(call).enqueue(*call.args)
        except ArdiqError as error:
            self._journal.note("refuse", own, error=str(error), by_server=str(error).startswith(REFUSED))
            return
        self._journal.note("accept", job.id, value=call.value)
        if waits:
            await self._wait(job)

    async def _many(self, count: int) -> None:
        calls = [self._call() for _ in range(count)]
        try:
            jobs = await self._app.enqueue_many([self._ref(call).prepare(*call.args) for call in calls])
        except ArdiqError as error:
            self._journal.note("refuse", error=str(error))
            return
        for job, call in zip(jobs, calls, strict=True):
            self._journal.note("accept", job.id, value=call.value)

    async def _wait(self, job: Job[Any]) -> None:
        self._waiting.append(job.id)
        try:
            result = await job.result(timeout=WAIT_S)
        except (ArdiqError, TimeoutError) as error:
            by_server = str(error).startswith(REFUSED)
            self._journal.note("untold", job.id, error=f"{type(error).__name__}: {error}", by_server=by_server)
        else:
            assert result is not None  # a wait with a timeout ends with a result or an error
            self._journal.note("told", job.id, result=described(result))
        self._waiting.remove(job.id)


if __name__ == "__main__":
    asyncio.run(Producer(Settings.of_this_process()).run())

"""One run: start everything, inject faults round by round, drain, and collect the evidence."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ardiq import Ardiq, ArdiqError
from tests.chaos import plan
from tests.chaos.checker import Evidence, Final, Verdict, check
from tests.chaos.faults import FAULTS, Fault, Scope, Stage
from tests.chaos.fleet import LANES, Fleet, Place
from tests.chaos.journal import Journal, Note, Reader
from tests.chaos.producer import answer
from tests.chaos.report import histories, summary
from tests.chaos.settings import Settings
from tests.chaos.store import Records, Store
from tests.leftovers import consumers, leftovers
from tests.servers import Kind

START_S = 30.0
"""How long a process may take to start and serve the queue."""

DEAF_S = 5.0
"""How long after a fault has ended every process must work again."""

TAKEOVER_S = 8.0
"""How long after the end of its lease a dead worker may leave traces."""

STUCK_S = 30.0
"""A drain is abandoned after this long without activity."""

LOOK_S = 0.05
PULSE_S = 0.05
BATCH = 200


@dataclass(frozen=True)
class Options:
    """The settings of a run.

    `names`: the kinds of faults, each of which happens once even if `seconds` are too few.

    `rate`: calls a second of each producer, each for one or several jobs.
    """

    kind: Kind
    seed: int
    seconds: float
    names: tuple[str, ...] = tuple(FAULTS)
    workers: int = 4
    producers: int = 2
    lease_ms: int = 2000
    rate: float = 12.0

    def repeat(self) -> str:
        """The command that repeats this run."""
        faults = "all" if set(self.names) == set(FAULTS) else ",".join(self.names)
        return (
            f"python -m tests.chaos --server {self.kind} --seed {self.seed} --minutes {self.seconds / 60:g} "
            f"--faults {faults} --workers {self.workers} --producers {self.producers} --lease-ms {self.lease_ms} "
            f"--rate {self.rate:g}"
        )


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `text` is what to print."""

    verdict: Verdict
    text: str


async def run(options: Options, directory: Path, say: Any = print) -> Outcome:
    """Do one run; its journal and all logs are in `directory` afterwards."""
    began = time.monotonic()
    store = Store(options.kind, directory)
    try:
        await store.start()
        async with _Run(options, store, directory, say).started() as this:
            await this.break_things()
            evidence = await this.drain()
        await store.stop()
        records = Records(store, this.queue)
        evidence.stored, evidence.commits = records.stored, records.commits
        verdict = check(evidence)
        text = summary(
            verdict,
            evidence.notes,
            title=f"chaos on {options.kind}, seed {options.seed}",
            repeat=options.repeat(),
            seconds=time.monotonic() - began,
        )
        if verdict.findings:
            text += f"\n{histories(verdict, evidence.notes, store, directory)}"
            store.keep_history(directory)
        return Outcome(verdict, text)
    finally:
        store.server.close()


class _Run:
    def __init__(self, options: Options, store: Store, directory: Path, say: Any) -> None:
        self._options = options
        self._store = store
        self._say = say
        self._directory = directory
        self._lease_s = options.lease_ms / 1000
        self.queue = f"chaos-{uuid.uuid4().hex}"
        path = directory / "journal"
        self._journal = Journal(path)
        self._reader = Reader(path)
        self._last: dict[int, dict[str, float]] = {}
        settings = Settings(
            url="",
            queue=self.queue,
            lanes=LANES,
            options={
                "idle_timeout_ms": options.lease_ms,
                "concurrency": 8,
                "shutdown_grace_s": self._lease_s / 2,
                "result_ttl_ms": 3_600_000,
            },
            journal=str(path),
            lease_s=self._lease_s,
            seed=str(options.seed),
            rate=options.rate,
        )
        self._fleet = Fleet(store, settings, self._journal, directory)
        lanes = [*LANES, *(f"only-{number}" for number in range(options.workers))]
        app = Ardiq(store.server.url, self.queue, lanes)
        self._stage = Stage(store, self._fleet, self._journal, app, self._lease_s)

    @asynccontextmanager
    async def started(self) -> AsyncIterator["_Run"]:
        pulse = asyncio.create_task(self._pulse())
        try:
            async with self._fleet as fleet:
                for number in range(self._options.workers):
                    await fleet.add("worker", number)
                for number in range(self._options.producers):
                    await fleet.add("producer", number)
                await self._healthy()
                yield self
        finally:
            pulse.cancel()

    async def break_things(self) -> None:
        """Round after round of faults, until the time is up and each kind has happened; then
        everything must work again.
        """
        end, left = time.monotonic() + self._options.seconds, set(self._options.names)
        most: dict[Scope, int] = {"worker": self._options.workers, "producer": self._options.producers, "server": 1}
        for number, faults in enumerate(plan.rounds(self._options.seed, self._options.names, most)):
            if time.monotonic() > end and not left:
                return
            left -= {fault.name for fault in faults}
            random = Random(f"{self._options.seed}/{number}")
            self._say(f"round {number}: {', '.join(fault.name for fault in faults)}")
            await asyncio.gather(*(self._inflict(*pair, random) for pair in self._targets(faults, random)))
            await self._healthy()

    def _targets(self, faults: list[Fault], random: Random) -> Iterable[tuple[Fault, Place | None]]:
        """Each process is hit by one fault of a round at most."""
        free = {role: random.sample(self._fleet.of(role), len(self._fleet.of(role))) for role in ("worker", "producer")}
        for fault in faults:
            yield fault, None if fault.scope == "server" else free[fault.scope].pop()

    async def _inflict(self, fault: Fault, place: Place | None, random: Random) -> None:
        own = Random(random.random())
        await asyncio.sleep(own.uniform(0, 0.3))
        await fault.do(self._stage, place, own)

    # Health

    async def _healthy(self) -> None:
        """Return when every process works; one that does not is a complaint."""
        healed = time.monotonic()
        await asyncio.gather(*(self._works(place, healed) for place in self._fleet.places))

    async def _works(self, place: Place, healed: float) -> None:
        deadline = time.monotonic() + START_S
        while not place.serves():
            if time.monotonic() > deadline:
                await self._complain(place, f"serves nothing {START_S:g} s after its start")
                return
            await asyncio.sleep(LOOK_S)
        pid, since = place.pid, max(healed, time.monotonic())
        if place.role == "worker":
            await self._stage.enqueue("echo", place.lane)
        deadline = time.monotonic() + DEAF_S
        while not (worked := self._activity(pid, since)):
            if place.pid != pid:
                await self._works(place, healed)
                return
            if self._blocked(pid):
                deadline = time.monotonic() + DEAF_S
            if time.monotonic() > deadline:
                await self._complain(place, f"has done nothing for {DEAF_S:g} s after a fault had healed")
                return
            await asyncio.sleep(LOOK_S)
        self._journal.note("back", pid=pid, place=place.name, seconds=worked - since)

    async def _complain(self, place: Place, what: str) -> None:
        """Note what is wrong, with the server's view of its clients at that time."""
        self._journal.note("complaint", pid=place.pid, place=place.name, what=what)
        clients: bytes = await self._store.ask("CLIENT", "LIST")
        (self._directory / f"clients-{place.pid}.log").write_bytes(clients)

    def _activity(self, pid: int, since: float) -> float:
        """When the process worked, after `since`; 0 when it has not."""
        self._hear()
        worked = [at for event, at in self._last.get(pid, {}).items() if event in ("start", "end", "accept")]
        return max((at for at in worked if at > since), default=0.0)

    def _blocked(self, pid: int) -> bool:
        last = self._last.get(pid, {})
        return last.get("block", 0.0) > last.get("unblock", 0.0)

    def _hear(self) -> None:
        for note in self._reader.news():
            self._last.setdefault(note.pid, {})[note.event] = note.at

    async def _pulse(self) -> None:
        """Note each time in which this process, and with it every link, stood still."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(PULSE_S)
            now = time.monotonic()
            if now - last > self._lease_s / 4:
                self._journal.note("late", began=last, ended=now)
            last = now

    # The end

    async def drain(self) -> Evidence:
        """Let the workers finish what there is, then stop them; what is left is evidence."""
        await self._fleet.end("producer")
        await self._until_idle()
        notes = self._all_notes()
        known = dict.fromkeys(note.job for note in notes if note.event in ("ask", "accept"))
        results = await self._results(list(known))
        accepted = {note.job for note in notes if note.event == "accept"}
        missing = [job for job, final in results.items() if final is None and job in accepted]
        states = {job: str(await self._stage.app.info(job)) for job in missing}
        await self._until_the_dead_are_gone()
        await self._fleet.end("worker")
        left = await asyncio.to_thread(leftovers, self._store.server, self.queue)
        return Evidence(self._all_notes(), results, set(), {}, self._lease_s, left, states)

    async def _until_idle(self) -> None:
        """Return when no job waits or runs, or nothing has happened for long."""
        app, server = self._stage.app, self._store.server
        last_at = time.monotonic()
        while time.monotonic() - last_at < STUCK_S:
            if self._reader.news():
                last_at = time.monotonic()
            running = await asyncio.to_thread(server.cli, "HLEN", f"ardiq:{{{self.queue}}}:running")
            if not running and not await app.queue_size():
                return
            await asyncio.sleep(LOOK_S)

    async def _until_the_dead_are_gone(self) -> None:
        """Wait until live workers have taken over from those that died last; otherwise the dead
        count as leftovers.
        """
        end = time.monotonic() + self._lease_s + TAKEOVER_S
        while time.monotonic() < end:
            if not await asyncio.to_thread(self._knows_dead):
                return
            await asyncio.sleep(LOOK_S)

    def _knows_dead(self) -> bool:
        """Whether Redis knows of a worker that has no process any more."""
        server, living = self._store.server, {str(place.pid) for place in self._fleet.of("worker")}
        known: list[bytes] = server.cli("ZRANGE", f"ardiq:{{{self.queue}}}:workers", 0, -1)
        names = {name.decode() for name in known} | set(consumers(server, self.queue))
        return any(name.split(":")[1] not in living for name in names)

    async def _results(self, jobs: list[str]) -> dict[str, Final | None]:
        found: dict[str, Final | None] = {}
        for first in range(0, len(jobs), BATCH):
            batch = jobs[first : first + BATCH]
            answers = await asyncio.gather(*(self._stage.app.result(job) for job in batch), return_exceptions=True)
            for job, result in zip(batch, answers, strict=True):
                if isinstance(result, ArdiqError) or result is None:
                    found[job] = None
                elif isinstance(result, BaseException):
                    raise result
                else:
                    value = answer(result.value) if result.success else str(result.value)
                    found[job] = Final(result.success, value, result.tries, result.worker_id)
        return found

    def _all_notes(self) -> list[Note]:
        self._hear()
        return self._reader.notes

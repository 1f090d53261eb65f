"""The faults by name: the effect on the target, and the duration.

A fault returns when it has healed. It notes itself in the journal with the process that it hit, if
it hit a single one, its beginning and its end: that note is what may explain a second start of a
job.
"""

import asyncio
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Literal

from ardiq import Ardiq, BrokerError
from tests.chaos.fleet import Fleet, Place
from tests.chaos.journal import Journal
from tests.chaos.proxy import Direction
from tests.chaos.store import Store

Scope = Literal["worker", "producer", "server"]

CUT_S = 3.0
"""How long a cut waits for the byte after which it cuts."""

ENQUEUE_S = 30.0
"""How long an enqueue by the run itself may take, including an outage."""

FLIP_S = 0.25
"""How long rights are revoked."""


@dataclass
class Stage:
    """The targets of faults."""

    store: Store
    fleet: Fleet
    journal: Journal
    app: Ardiq
    lease_s: float

    @contextmanager
    def noted(self, kind: str, place: Place | None = None) -> Iterator[None]:
        """Note what happens inside as a fault; it concerns the process that `place` has at the
        beginning.
        """
        began, pid = time.monotonic(), place.pid if place else 0
        try:
            yield
        finally:
            target = place.name if place else "server"
            self.journal.note("fault", pid=pid, kind=kind, target=target, began=began, ended=time.monotonic())

    async def enqueue(self, name: str, lane: str, *args: object) -> str:
        """Enqueue a job of the run's own, however long the server takes to accept it; return its
        id.
        """
        job = uuid.uuid4().hex
        value = uuid.uuid4().int & 0xFFFF
        async with asyncio.timeout(ENQUEUE_S):
            while True:
                try:
                    await self.app.ref(name).options(priority=lane, task_id=job).enqueue(value, *args)
                except BrokerError:
                    continue
                self.journal.note("accept", job, value=value)
                return job


Do = Callable[[Stage, Place, Random], Awaitable[None]]
DoToServer = Callable[[Stage, Random], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    `costs`: whether a process may lose its work, so that others start it again.
    """

    name: str
    scope: Scope
    costs: bool
    do: Callable[[Stage, Place | None, Random], Awaitable[None]]


FAULTS: dict[str, Fault] = {}


def to_process(scope: Literal["worker", "producer"], name: str, *, costs: bool = False) -> Callable[[Do], Do]:
    """Register a fault of one process."""

    def register(do: Do) -> Do:
        async def run(stage: Stage, place: Place | None, random: Random) -> None:
            assert place is not None
            await do(stage, place, random)

        FAULTS[name] = Fault(name, scope, costs, run)
        return do

    return register


def to_server(name: str) -> Callable[[DoToServer], DoToServer]:
    """Register a fault of the server, or of what it grants: none of these may cost a worker its
    work.
    """

    def register(do: DoToServer) -> DoToServer:
        async def run(stage: Stage, _place: Place | None, random: Random) -> None:
            with stage.noted(name):
                await do(stage, random)

        FAULTS[name] = Fault(name, "server", False, run)
        return do

    return register


# Processes


@to_process("worker", "worker-kill", costs=True)
@to_process("producer", "producer-kill")
async def kill(stage: Stage, place: Place, random: Random) -> None:
    await asyncio.sleep(random.uniform(0, 0.5))
    if place.running():
        with stage.noted(f"{place.role}-kill", place):
            stage.fleet.signal(place, signal.SIGKILL)


async def _freeze(stage: Stage, place: Place, kind: str, seconds: float) -> None:
    if not place.running():
        return
    with stage.noted(kind, place):
        stage.fleet.signal(place, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            stage.fleet.signal(place, signal.SIGCONT)


@to_process("worker", "worker-freeze", costs=True)
async def worker_freeze(stage: Stage, place: Place, random: Random) -> None:
    """Past the lease: the others take over its work, and it must drop it."""
    await _freeze(stage, place, "worker-freeze", stage.lease_s * random.uniform(1.6, 2.2))


@to_process("worker", "worker-nap")
async def worker_nap(stage: Stage, place: Place, random: Random) -> None:
    """Below the lease: it must have no effect."""
    await _freeze(stage, place, "worker-nap", stage.lease_s * random.uniform(0.1, 0.3))


@to_process("producer", "producer-freeze")
async def producer_freeze(stage: Stage, place: Place, random: Random) -> None:
    await _freeze(stage, place, "producer-freeze", stage.lease_s * random.uniform(0.3, 2.2))


async def _stop(stage: Stage, place: Place, kind: str, again_s: float | None) -> None:
    if not place.serves():
        return
    with stage.noted(kind, place):
        pid = stage.fleet.signal(place, signal.SIGTERM)
        if again_s is not None:
            await asyncio.sleep(again_s)
            if place.pid == pid and place.running():
                stage.fleet.signal(place, signal.SIGTERM)
        await stage.fleet.await_end(place, pid)


@to_process("worker", "worker-stop", costs=True)
async def worker_stop(stage: Stage, place: Place, _random: Random) -> None:
    await _stop(stage, place, "worker-stop", None)


@to_process("worker", "worker-stop-twice", costs=True)
async def worker_stop_twice(stage: Stage, place: Place, random: Random) -> None:
    await _stop(stage, place, "worker-stop-twice", random.uniform(0.01, 0.3))


@to_process("worker", "worker-blocked-loop")
async def loop_block(stage: Stage, place: Place, random: Random) -> None:
    """A coroutine blocks the event loop for several leases."""
    seconds = stage.lease_s * random.uniform(2, 3)
    with stage.noted("worker-blocked-loop", place):
        await stage.enqueue("block", place.lane, seconds)
        await asyncio.sleep(seconds)


# Links


async def _cut(stage: Stage, place: Place, kind: str, direction: Direction, random: Random) -> None:
    with stage.noted(kind, place):
        for _ in range(3):
            # Small numbers cut in the midst of a command's head, large ones in a body.
            cut = place.link.cut(direction, random.choice([random.randint(1, 40), random.randint(1, 4000)]))
            try:
                await asyncio.wait_for(cut.done.wait(), CUT_S)
            except TimeoutError:
                place.link.heal()


@to_process("worker", "worker-cut-request")
@to_process("producer", "producer-cut-request")
async def cut_request(stage: Stage, place: Place, random: Random) -> None:
    await _cut(stage, place, f"{place.role}-cut-request", "request", random)


@to_process("worker", "worker-cut-reply")
@to_process("producer", "producer-cut-reply")
async def cut_reply(stage: Stage, place: Place, random: Random) -> None:
    await _cut(stage, place, f"{place.role}-cut-reply", "reply", random)


@to_process("worker", "worker-slow-link")
@to_process("producer", "producer-slow-link")
async def slow_link(stage: Stage, place: Place, random: Random) -> None:
    with stage.noted(f"{place.role}-slow-link", place):
        place.link.bytes_per_s = random.randint(50_000, 300_000)
        await asyncio.sleep(stage.lease_s)
        place.link.heal()


@to_process("worker", "worker-latency")
@to_process("producer", "producer-latency")
async def latency(stage: Stage, place: Place, random: Random) -> None:
    """A round trip stays below a third of the lease, so that the worker can renew in time."""
    with stage.noted(f"{place.role}-latency", place):
        place.link.latency_s = stage.lease_s * random.uniform(0.02, 0.08)
        await asyncio.sleep(stage.lease_s)
        place.link.heal()


async def _partition(stage: Stage, place: Place, kind: str, seconds: float, *, late: bool) -> None:
    with stage.noted(kind, place):
        place.link.block()
        await asyncio.sleep(seconds)
        if not late:
            place.link.sever()
        place.link.heal()


@to_process("worker", "worker-partition", costs=True)
async def worker_partition(stage: Stage, place: Place, random: Random) -> None:
    """One worker is cut off for longer than its lease; then the data arrives late, or is lost."""
    late = random.random() < 0.5
    await _partition(stage, place, "worker-partition", stage.lease_s * random.uniform(1.6, 2.2), late=late)


@to_process("worker", "worker-hiccup")
async def worker_hiccup(stage: Stage, place: Place, random: Random) -> None:
    await _partition(stage, place, "worker-hiccup", stage.lease_s * random.uniform(0.1, 0.3), late=True)


# The server


@to_server("server-kill")
async def server_kill(stage: Stage, _random: Random) -> None:
    await stage.store.kill()
    await stage.store.start()


@to_server("server-restart")
async def server_restart(stage: Stage, _random: Random) -> None:
    await stage.store.stop()
    await stage.store.start()


@to_server("server-outage")
async def server_outage(stage: Stage, random: Random) -> None:
    await (stage.store.kill if random.random() < 0.5 else stage.store.stop)()
    await asyncio.sleep(stage.lease_s * random.uniform(1.5, 2.5))
    await stage.store.start()


async def _freeze_server(stage: Stage, seconds: float) -> None:
    stage.store.server.freeze()
    try:
        await asyncio.sleep(seconds)
    finally:
        stage.store.server.thaw()


@to_server("server-freeze")
async def server_freeze(stage: Stage, random: Random) -> None:
    """Past the lease, of every worker at once: no worker has died."""
    await _freeze_server(stage, stage.lease_s * random.uniform(1.5, 2.2))


@to_server("server-nap")
async def server_nap(stage: Stage, random: Random) -> None:
    await _freeze_server(stage, stage.lease_s * random.uniform(0.1, 0.5))


@to_server("server-hangs-up")
async def server_hangs_up(stage: Stage, random: Random) -> None:
    for _ in range(3):
        await stage.store.ask("CLIENT", "KILL", "TYPE", random.choice(["normal", "pubsub"]))
        await asyncio.sleep(0.2)


@to_server("server-forgets-scripts")
async def server_forgets_scripts(stage: Stage, _random: Random) -> None:
    for _ in range(10):
        await stage.store.ask("SCRIPT", "FLUSH")
        await asyncio.sleep(0.1)


async def _flip(stage: Stage, withdraw: str, grant: str) -> None:
    for _ in range(2):
        await stage.store.rights(withdraw)
        await asyncio.sleep(FLIP_S)
        await stage.store.rights(grant)
        await asyncio.sleep(2 * FLIP_S)


@to_server("acl-write")
async def acl_write(stage: Stage, _random: Random) -> None:
    await _flip(stage, "-@write", "+@all")


@to_server("acl-scripts")
async def acl_scripts(stage: Stage, _random: Random) -> None:
    await _flip(stage, "-@scripting", "+@all")


@to_server("acl-channels")
async def acl_channels(stage: Stage, _random: Random) -> None:
    await _flip(stage, "resetchannels", "allchannels")


@to_server("acl-keys")
async def acl_keys(stage: Stage, _random: Random) -> None:
    await _flip(stage, "resetkeys", "allkeys")


@to_server("acl-all")
async def acl_all(stage: Stage, _random: Random) -> None:
    await _flip(stage, "-@all", "+@all")

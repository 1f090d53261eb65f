"""The processes of a run: each has a place, a link to the server, and a successor when it has
ended.
"""

import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, Self

from tests.chaos.journal import Journal
from tests.chaos.proxy import Link
from tests.chaos.settings import Settings
from tests.chaos.store import Store
from tests.programs import Program

Role = Literal["worker", "producer"]

ROOT = Path(__file__).resolve().parents[2]
LANES = ["low", "default", "high"]
LOOK_S = 0.05
PAUSE_S = 0.2
"""Between the end of a process and the start of its successor."""

ENDS_S = 25.0
"""How long a stopping process may take: grace period, cleanup, and a sign-off while the server is
away.
"""


class Place:
    """One worker or producer after the other, over one link.

    `lane` is served by this worker alone.
    """

    def __init__(self, role: Role, number: int, link: Link) -> None:
        self.role: Role = role
        self.number = number
        self.name = f"{role}-{number}"
        self.lane = f"only-{number}"
        self.link = link
        self.program: Program | None = None
        self.programs: list[Program] = []

    @property
    def pid(self) -> int:
        return self.program.pid if self.program else 0

    def running(self) -> bool:
        return self.program is not None and self.program.process.poll() is None

    def serves(self) -> bool:
        """Whether it has started to work."""
        if self.program is None or not self.running():
            return False
        return self.role == "producer" or " serves queue " in self.program.output


class Fleet:
    """All places of a run.

    While `keeping`, an ended process gets a successor; each start and end is noted.
    """

    def __init__(self, store: Store, settings: Settings, journal: Journal, directory: Path) -> None:
        self._store = store
        self._settings = settings
        self._journal = journal
        self._directory = directory
        self._links = AsyncExitStack()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.places: list[Place] = []
        self.keeping = {"worker": True, "producer": True}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        for place in self.places:
            for program in place.programs:
                program.close()
        await self._links.aclose()

    def of(self, role: Role) -> list[Place]:
        return [place for place in self.places if place.role == role]

    async def add(self, role: Role, number: int) -> Place:
        link = await self._links.enter_async_context(Link(self._store.server.port))
        place = Place(role, number, link)
        self.places.append(place)
        self._start(place)
        self._keepers[place.name] = asyncio.create_task(self._keep(place))
        return place

    def _start(self, place: Place) -> None:
        settings = self._settings
        lanes = [*LANES, place.lane] if place.role == "worker" else LANES
        own = Settings(
            url=self._store.url(place.link.port),
            queue=settings.queue,
            lanes=lanes,
            options=settings.options,
            journal=settings.journal,
            lease_s=settings.lease_s,
            seed=f"{settings.seed}/{place.name}/{len(place.programs)}",
            rate=settings.rate,
        )
        module = ["ardiq_cli", "run", "tests.chaos.jobs:app"] if place.role == "worker" else ["tests.chaos.producer"]
        log = self._directory / f"{place.name}.{len(place.programs)}.log"
        place.program = Program([sys.executable, "-m", *module], log, ROOT, own.environment())
        place.programs.append(place.program)
        self._journal.note("spawn", pid=place.pid, place=place.name, log=log.name)

    async def _keep(self, place: Place) -> None:
        while True:
            program = place.program
            assert program is not None
            while place.running():  # noqa: ASYNC110 - only polling shows that a process has ended
                await asyncio.sleep(LOOK_S)
            self._journal.note(
                "exit",
                pid=program.pid,
                place=place.name,
                code=program.process.returncode,
            )
            place.program = None
            if not self.keeping[place.role]:
                return
            await asyncio.sleep(PAUSE_S)
            if not self.keeping[place.role]:
                return
            self._start(place)

    def signal(self, place: Place, number: signal.Signals) -> int:
        """Signal the process of a place, and note that it was us; return its process id."""
        assert place.program is not None
        self._journal.note("signal", pid=place.pid, place=place.name, name=number.name)
        place.program.send(number)
        return place.pid

    async def end(self, role: Role) -> None:
        """Stop all processes of a role by SIGTERM; a process that does not end is a complaint, and
        killed.
        """
        self.keeping[role] = False
        for place in self.of(role):
            if place.running():
                self.signal(place, signal.SIGTERM)
        deadline = time.monotonic() + ENDS_S
        for place in self.of(role):
            await self.await_end(place, place.pid, deadline)
            await self._keepers[place.name]

    async def await_end(self, place: Place, pid: int, deadline: float | None = None) -> None:
        """Wait for the end of a process that was told to stop."""
        deadline = deadline or time.monotonic() + ENDS_S
        while place.pid == pid and place.running():
            if time.monotonic() > deadline:
                self._journal.note("complaint", pid=pid, place=place.name, what="did not end after SIGTERM")
                self.signal(place, signal.SIGKILL)
                deadline += ENDS_S
            await asyncio.sleep(LOOK_S)

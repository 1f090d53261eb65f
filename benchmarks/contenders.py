"""The queues that take part: their versions, environments and commands.

Every peer has its own virtual environment with pinned versions, which is created below `.bench/` on
first use. ArdiQ and the floor run in the environment of the harness; the ceiling is an example
program of the engine, behind an actor like the others.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
ACTORS = Path(__file__).resolve().parent / "actors"
ENVIRONMENTS = ROOT / ".bench"


@dataclass(frozen=True)
class Contender:
    """One program that is measured, in one setting.

    `packages`: the packages of its environment; none means the environment of the harness.
    `example`: a program of the engine that its actor runs. `variant_of`: the contender that this is
    another setting of. `imports`: what a program that enqueues has to import. `tasks`: the tasks
    that its actor can run. `concurrency`: that of a worker for short tasks; below the usual hundred
    if it uses threads, because more threads make it slower. `measures`: the figures that are
    meaningful, if not all of them are. `polls`: it rarely checks for results. `one_thread`: only
    the thread of its event loop takes the GIL. `settings`: settings for its actor, as
    `BENCH_<NAME>`.
    """

    name: str
    actor: str
    packages: tuple[str, ...] = ()
    example: str = ""
    variant_of: str = ""
    imports: str = ""
    tasks: frozenset[str] = frozenset({"noop", "nap", "crunch"})
    concurrency: int = 100
    most_concurrency: int | None = None
    measures: frozenset[str] | None = None
    gathers: bool = False
    polls: bool = False
    one_thread: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_peer(self) -> bool:
        """Whether it is a queue that people would use instead."""
        return bool(self.packages)

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ENVIRONMENTS / self.name / "bin" / "python" if self.packages else Path(sys.executable)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that its actor reads."""
        settings = {"concurrency": str(self.concurrency), **self.settings}
        return {f"BENCH_{name.upper()}": value for name, value in settings.items()}

    def at(self, concurrency: int) -> Self:
        """Return the same contender at another concurrency, or at the highest that it supports."""
        return replace(self, concurrency=min(concurrency, self.most_concurrency or concurrency))

    def having(self, **settings: object) -> Self:
        """Return the same contender with further settings for its actor."""
        return replace(self, settings={**self.settings, **{name: str(value) for name, value in settings.items()}})

    def is_among(self, names: Collection[str]) -> bool:
        """Return whether it was asked for, by its own name or by that of the contender of which it
        is a variant.
        """
        return self.name in names or self.variant_of in names

    def prepare(self) -> None:
        """Create its environment and build its program, unless they exist in exactly these
        versions.
        """
        if self.packages:
            self._install()
        if self.example:
            self._build()

    def command(self, role: str, *arguments: object) -> Sequence[str]:
        """Return the command line for one role."""
        driver = [str(self.python), str(ACTORS / "driver.py"), self.actor, role]
        return [*driver, *(str(argument) for argument in arguments)]

    def _install(self) -> None:
        place, wanted = ENVIRONMENTS / self.name, "\n".join((sys.version, *self.packages))
        stamp = place / "installed"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        uv = [sys.executable, "-m", "uv"]
        # Do not apply the versions that we build and test with.
        free = {
            name: value for name, value in os.environ.items() if name not in ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT")
        }
        make = [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)]
        subprocess.run(make, check=True, env=free)
        install = [*uv, "pip", "install", "--quiet", "--python", str(self.python), *self.packages]
        subprocess.run(install, check=True, env=free)
        stamp.write_text(wanted)

    def _build(self) -> None:
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--message-format=json"]
        command += ["--package", "ardiq-engine", "--example", self.example]
        built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        said = [json.loads(line) for line in built.stdout.splitlines()]
        program = next(one["executable"] for one in said if one.get("target", {}).get("kind") == ["example"])
        ENVIRONMENTS.mkdir(exist_ok=True)
        shutil.copy2(program, ENVIRONMENTS / self.example)


def prepare(contenders: Collection[Contender]) -> None:
    """Prepare all of them at the same time: most of the time is spent waiting for disk and network,
    and the slowest step is a compiler.
    """
    with ThreadPoolExecutor(max(1, len(contenders))) as pool:
        for made in [pool.submit(one.prepare) for one in contenders]:
            made.result()


ASYNC = frozenset({"noop", "nap", "crunch"})
BOTH = ASYNC | {"blocking"}

OURS = Contender("ardiq", "ardiq_actor", imports="import ardiq", tasks=BOTH, gathers=True, one_thread=True)
DEFAULT = replace(OURS, name="ardiq-default", variant_of=OURS.name, concurrency=16)
FLOOR = Contender("floor", "floor_actor", tasks=frozenset({"noop"}))
CEILING = Contender(
    "ceiling",
    "ceiling_actor",
    example="ceiling",
    tasks=frozenset({"noop"}),
    # Its program is a child of the actor, and measures the time itself.
    measures=frozenset({"jobs/s", "longest call ms"}),
    settings={"ceiling": str(ENVIRONMENTS / "ceiling")},
)
PEERS = (
    Contender(
        "arq", "arq_actor", ("arq==0.28.0", "redis[hiredis]==5.3.1"), imports="import arq", gathers=True, polls=True
    ),
    Contender(
        "streaq", "streaq_actor", ("streaq==7.2.0",), imports="import streaq", tasks=BOTH, gathers=True, polls=True
    ),
    Contender(
        "taskiq",
        "taskiq_actor",
        ("taskiq==0.13.0", "taskiq-redis==1.2.4"),
        imports="import taskiq_redis",
        tasks=BOTH,
        gathers=True,
    ),
    Contender(
        "saq",
        "saq_actor",
        ("saq[hiredis]==0.26.4", "typing-extensions==4.16.0"),
        imports="import saq",
        gathers=True,
        polls=True,
    ),
    Contender(
        "dramatiq", "dramatiq_actor", ("dramatiq[redis]==2.2.1",), imports="import dramatiq", tasks=BOTH, concurrency=8
    ),
    Contender(
        "celery",
        "celery_actor",
        ("celery[redis]==5.7.0",),
        imports="from celery import Celery",
        tasks=BOTH,
        concurrency=8,
        most_concurrency=100,
    ),
    Contender("rq", "rq_actor", ("rq==3.0.0",), imports="import rq", tasks=BOTH, concurrency=1, most_concurrency=1),
)
ALL = (OURS, DEFAULT, FLOOR, CEILING, *PEERS)

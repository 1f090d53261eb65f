"""Who takes part: versions, environments, how each is started.

Every peer has a virtual environment of its own with pinned versions, made on first use below `.bench/`. ArdiQ and the
floor run in the environment of the harness; the ceiling is an example program of the engine.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ACTORS = Path(__file__).resolve().parent / "actors"
ENVIRONMENTS = ROOT / ".bench"


@dataclass(frozen=True)
class Contender:
    """One program that is measured.

    `packages`: what its environment holds, none for that of the harness. `tasks`: what its actor can run. `imports`: what a program that
    enqueues has to import. `threads`: of a worker for short tasks, where
    more make it slower; None where concurrency is coroutines.
    """

    name: str
    actor: str
    packages: tuple[str, ...] = ()
    imports: str = ""
    tasks: frozenset[str] = frozenset({"noop", "nap", "crunch"})
    gathers: bool = False
    delays: bool = False
    threads: int | None = None
    most_concurrency: int | None = None

    @property
    def is_peer(self) -> bool:
        """A queue that people would use instead."""
        return bool(self.packages)

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ENVIRONMENTS / self.name / "bin" / "python" if self.packages else Path(sys.executable)

    def prepare(self) -> None:
        """Make its environment unless it is there with these very versions."""
        if not self.packages:
            return
        place, wanted = ENVIRONMENTS / self.name, "\n".join((sys.version, *self.packages))
        stamp = place / "installed"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        uv = [sys.executable, "-m", "uv"]
        # The versions that we build and test with are not theirs.
        free = {
            name: value for name, value in os.environ.items() if name not in ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT")
        }
        subprocess.run(
            [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)], check=True, env=free
        )
        install = [*uv, "pip", "install", "--quiet", "--python", str(self.python), *self.packages]
        subprocess.run(install, check=True, env=free)
        stamp.write_text(wanted)

    def command(self, role: str, *arguments: object) -> Sequence[str]:
        """The program for one role."""
        driver = [str(self.python), str(ACTORS / "driver.py"), self.actor, role]
        return [*driver, *(str(argument) for argument in arguments)]


ASYNC = frozenset({"noop", "nap", "crunch"})
BOTH = ASYNC | {"blocking"}

OURS = Contender("ardiq", "ardiq_actor", (), "import ardiq", BOTH, gathers=True, delays=True)
FLOOR = Contender("floor", "floor_actor", tasks=frozenset({"noop"}))
PEERS = (
    Contender("arq", "arq_actor", ("arq==0.28.0", "redis[hiredis]==5.3.1"), "import arq", ASYNC, gathers=True),
    Contender("streaq", "streaq_actor", ("streaq==7.2.0",), "import streaq", BOTH, gathers=True),
    Contender(
        "taskiq", "taskiq_actor", ("taskiq==0.13.0", "taskiq-redis==1.2.4"), "import taskiq_redis", BOTH, gathers=True
    ),
    Contender(
        "saq", "saq_actor", ("saq[hiredis]==0.26.4", "typing-extensions==4.16.0"), "import saq", ASYNC, gathers=True
    ),
    Contender("dramatiq", "dramatiq_actor", ("dramatiq[redis]==2.2.1",), "import dramatiq", BOTH, threads=8),
    Contender(
        "celery",
        "celery_actor",
        ("celery[redis]==5.7.0",),
        "from celery import Celery",
        BOTH,
        threads=8,
        most_concurrency=100,
    ),
    Contender("rq", "rq_actor", ("rq==3.0.0",), "import rq", BOTH, threads=1, most_concurrency=1),
)
ALL = (OURS, FLOOR, *PEERS)


def ceiling() -> Path:
    """The ceiling's program, built if need be: the queue's own scripts, driven by the engine's own link, without Python."""
    command = ["cargo", "build", "--release", "--locked", "--package", "ardiq-engine", "--example", "ceiling"]
    subprocess.run([*command, "--quiet"], cwd=ROOT, check=True)
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version=1", "--locked"], cwd=ROOT, check=True, capture_output=True
    )
    import json

    return Path(json.loads(metadata.stdout)["target_directory"]) / "release" / "examples" / "ceiling"

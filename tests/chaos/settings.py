"""The settings of a process of the run, passed through its environment."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

VARIABLE = "ARDIQ_CHAOS"


@dataclass(frozen=True)
class Settings:
    """Where a worker or a producer works, and how.

    `lanes`: lowest first. `options`: further options of the app. `rate`: calls a second of a
    producer.
    """

    url: str
    queue: str
    lanes: list[str]
    options: dict[str, Any]
    journal: str
    lease_s: float
    seed: str
    rate: float

    def environment(self) -> dict[str, str]:
        return {**os.environ, VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def of_this_process(cls) -> "Settings":
        return cls(**json.loads(os.environ[VARIABLE]))

"""From rounds to medians: the file of figures, and tables for people."""

import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Figures = dict[str, float]
Rounds = dict[str, dict[str, list[Figures]]]
"""By scenario, then contender: the figures of each round."""


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = f"{len(names)} x {names[0]}" if names else model
    rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "processor": model,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "rust": rust,
    }


def write(path: Path, rounds: Rounds, about: Mapping[str, str]) -> None:
    """Every figure of every round, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": dict(about), "rounds": rounds}, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """What `write` has written."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def median(rounds: Sequence[Figures], figure: str) -> float:
    """The median of one figure over its rounds."""
    return statistics.median(each[figure] for each in rounds if figure in each)


def spread(rounds: Sequence[Figures], figure: str) -> tuple[float, float]:
    """Lowest and highest."""
    values = [each[figure] for each in rounds if figure in each]
    return min(values), max(values)


def table(scenario: Mapping[str, Sequence[Figures]]) -> str:
    """One scenario as a Markdown table: a row per contender, medians with lowest and highest."""
    figures = list(dict.fromkeys(name for rounds in scenario.values() for each in rounds for name in each))
    lines = ["| | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    for contender, rounds in scenario.items():
        cells = []
        for figure in figures:
            if not any(figure in each for each in rounds):
                cells.append("–")
                continue
            low, high = spread(rounds, figure)
            cells.append(f"{number(median(rounds, figure))} ({number(low)}–{number(high)})")
        lines.append(f"| {contender} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"

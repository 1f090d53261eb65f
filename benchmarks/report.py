"""Turns rounds into medians: the file of figures, and tables for people."""

import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import CEILING, DEFAULT, FLOOR, OURS, PEERS

Figures = dict[str, float]
"""The figures of one round.

Empty if it failed, so that the others keep their places next to those of the same round.
"""

Rounds = dict[str, dict[str, list[Figures]]]
"""The figures of each round, by scenario and by row of its table.

A row is a contender if several take part.
"""

PAIRS = ((OURS, FLOOR), (OURS, CEILING), (DEFAULT, OURS))
"""The pairs of contenders whose ratio is meaningful."""


def machine() -> dict[str, str]:
    """Return a description of the machine."""
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
    """Write every figure of every round as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": dict(about), "rounds": rounds}, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read what `write` has written."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def median(rounds: Sequence[Figures], figure: str) -> float:
    """Return the median of one figure over its rounds."""
    return statistics.median(each[figure] for each in rounds if figure in each)


def spread(rounds: Sequence[Figures], figure: str) -> tuple[float, float]:
    """Return the lowest and the highest value."""
    values = [each[figure] for each in rounds if figure in each]
    return min(values), max(values)


def table(scenario: Mapping[str, Sequence[Figures]]) -> str:
    """Return one scenario as a Markdown table: a row per contender, medians with lowest and
    highest.
    """
    figures = list(dict.fromkeys(name for rounds in scenario.values() for each in rounds for name in each))
    lines = ["| | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    for row, rounds in scenario.items():
        cells = []
        for figure in figures:
            if not any(figure in each for each in rounds):
                cells.append("–")
                continue
            low, high = spread(rounds, figure)
            cells.append(f"{number(median(rounds, figure))} ({number(low)}–{number(high)})")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios(scenario: Mapping[str, Sequence[Figures]]) -> dict[str, list[Figures]]:
    """Return the ratios of rows.

    Each is taken within one round, in which the machine was the same for both.

    If contenders take part, these are ours over the floor, the ceiling, and the best peer of that
    round. Otherwise, they are each row over the first.
    """
    if OURS.name in scenario:
        pairs = [(over.name, under.name) for over, under in PAIRS]
    else:
        first, *others = scenario
        pairs = [(row, first) for row in others]
    found = {
        f"{over} / {under}": [_divided(*pair) for pair in zip(scenario[over], scenario[under], strict=False)]
        for over, under in pairs
        if over in scenario and under in scenario
    }
    peers = [scenario[peer.name] for peer in PEERS if peer.name in scenario]
    if OURS.name in scenario and peers:
        best = [_best(each) for each in zip(*peers, strict=False)]
        pairs_of_rounds = zip(scenario[OURS.name], best, strict=False)
        found[f"{OURS.name} / best peer"] = [_divided(*pair) for pair in pairs_of_rounds]
    return {row: rounds for row, rounds in found.items() if any(rounds)}


def _divided(over: Figures, under: Figures) -> Figures:
    return {name: over[name] / under[name] for name in over if under.get(name)}


def _best(round_of_all: Sequence[Figures]) -> Figures:
    """Return the best of each figure: the highest rate, or the lowest cost."""
    names = dict.fromkeys(name for figures in round_of_all for name in figures)
    best = {name: max if name.endswith(("/s", "share of the maximum")) else min for name in names}
    return {name: best[name](figures[name] for figures in round_of_all if name in figures) for name in names}


def number(value: float) -> str:
    """Return a number with three significant digits and separated thousands."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"

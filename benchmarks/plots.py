"""`python -m benchmarks.plots`: the figures as bar charts, for the README and the docs."""

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.contenders import CEILING, DEFAULT, FLOOR, OURS, ROOT
from benchmarks.page import FIGURES

PLACE = ROOT / "docs" / "images"
COLOURS = {OURS.name: "#b7410e", DEFAULT.name: "#d98a66", FLOOR.name: "#8d99ae", CEILING.name: "#5c677d"}
PEERS = "#c9ced6"
# Readers may prefer a dark page. The background is that of the page, and lines and letters are
# visible on either.
SCHEMES = """<style type="text/css">
   @media (prefers-color-scheme: dark) {
    text { fill: #e2e4e9 !important }
    [style*="stroke: #000000"] { stroke: #a9afbb !important }
    [style*="stroke: #555555"] { stroke: #e2e4e9 !important }
    [style*="fill: #c9ced6"] { fill: #5f6673 !important }
    [style*="fill: #b7410e"] { fill: #e0632c !important }
   }
  </style>"""

CHARTS = (
    ("drain", "drain", "jobs/s", "Tasks per second, one worker process (no-op, results stored)", True),
    ("cpu", "drain", "worker CPU µs/job", "Worker CPU per task, all threads, in µs", False),
    ("memory", "drain", "worker RSS MB", "Memory of a worker after the run, in MB", False),
    ("bulk", "bulk", "jobs/s", "Jobs per second, bulk enqueue", True),
    ("round-trip", "round-trip", "p50 ms", "Enqueue to result, idle worker, median in ms (logarithmic)", False),
)


def main() -> None:
    """Draw all charts from the file of figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args()
    rounds = report.read(options.figures)["rounds"]
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, scenario, figure, title, more_is_better in CHARTS:
        if scenario in rounds:
            draw(PLACE / f"{name}.svg", title, rounds[scenario], figure, more_is_better=more_is_better)


def draw(
    path: Path, title: str, scenario: Mapping[str, Sequence[report.Figures]], figure: str, *, more_is_better: bool
) -> None:
    """Draw one chart: a bar per contender, with the best on top, and medians with the lowest and
    the highest round.
    """
    # Imported by name: those who only check or run the harness do not need it.
    mpl: Any = import_module("matplotlib")
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "ardiq", "svg.fonttype": "none", "font.family": "sans-serif"})
    plot: Any = import_module("matplotlib.pyplot")
    shown = {name: rounds for name, rounds in scenario.items() if any(figure in each for each in rounds)}
    names = sorted(shown, key=lambda name: report.median(shown[name], figure), reverse=not more_is_better)
    medians = [report.median(shown[name], figure) for name in names]
    spreads = [report.spread(shown[name], figure) for name in names]
    errors = [
        [median - low for median, (low, _) in zip(medians, spreads, strict=True)],
        [high - median for median, (_, high) in zip(medians, spreads, strict=True)],
    ]
    colours = [COLOURS.get(name, PEERS) for name in names]
    drawing, axes = plot.subplots(figsize=(5.5, 0.36 * len(names) + 0.9))  # small enough for a phone
    bars = axes.barh(names, medians, xerr=errors, color=colours, ecolor="#555555", capsize=2)
    axes.bar_label(bars, [report.number(median) for median in medians], padding=6)
    if "logarithmic" in title:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, max(high for _, high in spreads) * 1.2)
        axes.locator_params(axis="x", nbins=5)
    drawing.suptitle(title, x=0.01, ha="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.tight_layout()
    drawing.savefig(path, metadata={"Date": None}, transparent=True)
    plot.close(drawing)
    path.write_text(with_schemes(path.read_text()))


def with_schemes(svg: str) -> str:
    """Return the drawing in colors that follow the reader's color scheme."""
    return svg.replace("</defs>", f"{SCHEMES}\n </defs>", 1)


if __name__ == "__main__":
    main()

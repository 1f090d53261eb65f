"""`python -m benchmarks.page`: writes the tables of docs/performance.md from the figures; `--check`
only compares.

A table is placed between `<!-- figures: SCENARIO -->` and `<!-- end of figures -->`. The ratios of
its rows are placed between `<!-- ratios: SCENARIO -->` and `<!-- end of ratios -->`.
"""

import argparse
import re
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import ROOT

PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "benchmarks" / "figures.json"
_PLACE = re.compile(r"(<!-- (figures|ratios): (\S+) -->\n\n).*?(\n\n<!-- end of \2 -->)", re.DOTALL)


def filled(text: str, rounds: report.Rounds) -> str:
    """Return the page with its tables updated."""

    def renewed(place: re.Match[str]) -> str:
        rows = rounds[place[3]]
        return place[1] + report.table(report.ratios(rows) if place[2] == "ratios" else rows) + place[4]

    return _PLACE.sub(renewed, text)


def main() -> int:
    """Run the command. Returns the exit status: with `--check`, 1 if the page is stale."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description="Renew the tables of the page.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args()
    text = PAGE.read_text()
    renewed = filled(text, report.read(options.figures)["rounds"])
    if options.check:
        return int(renewed != text)
    PAGE.write_text(renewed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

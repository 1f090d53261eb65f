"""`python -m benchmarks.page`: writes the tables of docs/performance.md from the figures; `--check` only compares."""

import argparse
import re
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import ROOT

PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "benchmarks" / "figures.json"
_PLACE = re.compile(r"(<!-- figures: (\S+) -->\n\n).*?(\n\n<!-- end of figures -->)", re.DOTALL)


def filled(text: str, rounds: report.Rounds) -> str:
    """The page with its tables renewed."""
    return _PLACE.sub(lambda place: place[1] + report.table(rounds[place[2]]) + place[3], text)


def main() -> int:
    """The exit status: with `--check` 1 when the page is stale."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
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

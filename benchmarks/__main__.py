"""`python -m benchmarks`: run scenarios, write every figure as JSON, print medians and ratios."""

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import ALL, OURS, ROOT, Contender, prepare
from benchmarks.cost import MOST
from benchmarks.scenario import FULL, QUICK, Scenario
from benchmarks.scenarios import SCENARIOS
from benchmarks.stage import RunFailed, Stage

ROUNDS = 5
OUT = ROOT / ".bench" / "figures.json"


def main() -> int:
    """Run the command. Returns the exit status: 0 if every run of every contender ended well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, one round, no peer twice by the same code: shows that everything runs",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of each scenario (default %(default)s)")
    parser.add_argument("--scenario", action="append", choices=[one.name for one in SCENARIOS], help="only these")
    parser.add_argument(
        "--contender",
        action="append",
        choices=[one.name for one in ALL],
        help="only these; `ardiq` is ArdiQ with its variants, each of which has a name of its own too",
    )
    parser.add_argument("--server", choices=["redis", "valkey"], default=None)
    parser.add_argument(
        "--out", type=Path, default=OUT, help="where the figures go; scenarios that are not run keep those they have"
    )
    options = parser.parse_args()
    # Like Ctrl-C, so that the blocks run that end what was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    names = frozenset(options.contender or [one.name for one in ALL])
    wanted = [one for one in SCENARIOS if not options.scenario or one.name in options.scenario]
    turns = [(one, entrants) for one in wanted if (entrants := one.entrants(names, quick=options.quick))]
    if options.contender and not turns:
        parser.error("none of these contenders takes part in these scenarios")
    started = time.monotonic()
    prepare({one.actor: one for _, entrants in turns for one in entrants}.values())
    print(f"environments: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    server = options.server or ("redis" if shutil.which("redis-server") else "valkey")
    rounds: report.Rounds = {}
    if options.out.exists() and (options.scenario or options.contender):
        rounds = report.read(options.out)["rounds"]
    failures = 0
    for scenario, entrants in turns:
        count = 1 if options.quick else options.rounds
        rows, failed = run(scenario, entrants, count, quick=options.quick, server=server)
        # Measure all of them again: ratios compare rows that took turns.
        rounds[scenario.name] = rows
        failures += failed
        report.write(options.out, rounds, {**report.machine(), "server": server})
        print(f"\n## {scenario.title}\n\n{report.table(rows)}", flush=True)
        if scenario.compared and rows and (ratios := report.ratios(rows)):
            print(f"\n{report.table(ratios)}", flush=True)
        if scenario.name == "counters":
            failures += regressions(rows.get(OURS.name, []))
    return 1 if failures else 0


def run(
    scenario: Scenario, entrants: list[Contender], count: int, *, quick: bool, server: str
) -> tuple[dict[str, list[report.Figures]], int]:
    """Run all rounds of one scenario, with the contenders in turn."""
    rows: dict[str, list[report.Figures]] = {}
    failed = 0
    for turn in range(count):
        for contender in entrants:
            started = time.monotonic()
            try:
                with Stage("redis" if server == "redis" else "valkey") as stage:
                    figures = scenario.run(stage, contender, QUICK if quick else FULL)
            except RunFailed as error:
                failed += 1
                figures = {}
                print(f"{scenario.name}: {contender.name} failed in round {turn + 1}: {error}", file=sys.stderr)
            for row, each in figures.items():
                # A round that failed keeps its place: see `report.Figures`.
                before = rows.setdefault(row, [])
                before += [{} for _ in range(turn - len(before))]
                before.append(each)
            seconds = time.monotonic() - started
            print(f"{scenario.name} {turn + 1}/{count} {contender.name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return rows, failed


def regressions(rounds: list[report.Figures]) -> int:
    """Return how many of our exact counters are above their limits."""
    found = 0
    for each in rounds:
        for figure, most in MOST.items():
            if each and each[figure] > most:
                found += 1
                print(f"{figure}: {each[figure]:.3f}, and {most:g} is the most that is allowed", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())

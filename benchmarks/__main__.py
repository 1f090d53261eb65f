"""`python -m benchmarks`: run scenarios, write every figure as JSON, print the medians."""

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import ALL, OURS, ROOT
from benchmarks.scenarios import FULL, MOST, QUICK, SCENARIOS, Scenario
from benchmarks.stage import RunFailed, Stage

ROUNDS = 5


def main() -> int:
    """The exit status: 0 when every run of every contender ended well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: shows that everything runs")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of each scenario (default 5)")
    parser.add_argument("--scenario", action="append", choices=[one.name for one in SCENARIOS], help="only these")
    parser.add_argument("--contender", action="append", choices=[one.name for one in ALL], help="only these")
    parser.add_argument("--server", choices=["redis", "valkey"], default=None)
    parser.add_argument("--out", type=Path, default=ROOT / ".bench" / "figures.json", help="where the figures go")
    options = parser.parse_args()
    # As Ctrl-C does: through the blocks that end what was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    wanted = [one for one in SCENARIOS if not options.scenario or one.name in options.scenario]
    names = set(options.contender or [one.name for one in ALL])
    for contender in ALL:
        if contender.name in names and any(contender in one.contenders for one in wanted):
            contender.prepare()
    server = options.server or ("redis" if shutil.which("redis-server") else "valkey")
    rounds: report.Rounds = {}
    if options.out.exists() and (options.scenario or options.contender):
        rounds = report.read(options.out)["rounds"]  # the others keep their figures
    failures = 0
    for scenario in wanted:
        count = 1 if options.quick or scenario.once else options.rounds or ROUNDS
        figures, failed = run(scenario, names, count, quick=options.quick, server=server)
        rounds.setdefault(scenario.name, {}).update(figures)
        failures += failed
        report.write(options.out, rounds, {**report.machine(), "server": server})
        print(f"\n## {scenario.title}\n\n{report.table(figures)}", flush=True)
    for figure, most in MOST.items():
        for each in rounds.get("counters", {}).get(OURS.name, []):
            if each[figure] > most:
                failures += 1
                print(f"{figure}: {each[figure]:.3f}, and {most:g} is the most that is allowed", file=sys.stderr)
    return 1 if failures else 0


def run(
    scenario: Scenario, names: set[str], count: int, *, quick: bool, server: str
) -> tuple[dict[str, list[report.Figures]], int]:
    """All rounds of one scenario, contenders in turn."""
    contenders = [one for one in scenario.contenders if one.name in names]
    figures: dict[str, list[report.Figures]] = {one.name: [] for one in contenders}
    failed = 0
    for turn in range(count):
        for contender in contenders:
            started = time.monotonic()
            try:
                with Stage("redis" if server == "redis" else "valkey") as stage:
                    figures[contender.name].append(scenario.run(stage, contender, QUICK if quick else FULL))
            except RunFailed as error:
                failed += 1
                print(f"{scenario.name}: {contender.name} failed in round {turn + 1}: {error}", file=sys.stderr)
            seconds = time.monotonic() - started
            print(f"{scenario.name} {turn + 1}/{count} {contender.name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return {name: each for name, each in figures.items() if each}, failed


if __name__ == "__main__":
    sys.exit(main())

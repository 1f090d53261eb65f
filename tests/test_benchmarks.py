"""How the benchmarks take some of their figures, and how they evaluate them."""

import os
import subprocess
import sys

import pytest

from benchmarks import report
from benchmarks.__main__ import run
from benchmarks.contenders import FLOOR, OURS, Contender
from benchmarks.growth import SCENARIOS
from benchmarks.latency import percentile
from benchmarks.page import FIGURES
from benchmarks.scenario import Rows, Scenario, Size
from benchmarks.stage import Stage
from tests.servers import Kind


def rates(*rounds: float) -> list[report.Figures]:
    return [{"jobs/s": rate} if rate else {} for rate in rounds]


def test_ratios_are_taken_within_each_round_against_the_peer_that_was_best_in_it() -> None:
    ratios = report.ratios({"ardiq": rates(100, 200), "arq": rates(10, 40), "celery": rates(20, 5)})
    assert ratios == {"ardiq / best peer": rates(100 / 20, 200 / 40)}


def test_of_a_cost_the_lowest_is_the_best() -> None:
    ratios = report.ratios({"ardiq": [{"p50 ms": 1.0}], "arq": [{"p50 ms": 4.0}], "rq": [{"p50 ms": 5.0}]})
    assert ratios == {"ardiq / best peer": [{"p50 ms": 0.25}]}


def test_a_round_that_failed_leaves_the_others_in_their_places() -> None:
    ratios = report.ratios({"ardiq": rates(100, 0, 300), "floor": rates(50, 50, 100), "ceiling": rates(200, 100, 0)})
    assert ratios == {"ardiq / floor": rates(2, 0, 3), "ardiq / ceiling": rates(0.5, 0, 0)}


def test_rows_that_are_no_contenders_are_divided_by_the_first() -> None:
    assert report.ratios({"1 lane": rates(8, 4), "2 lanes": rates(4, 4)}) == {"2 lanes / 1 lane": rates(0.5, 1)}
    assert report.ratios({"1 lane": rates(8)}) == {}


def test_a_table_shows_medians_with_the_lowest_and_the_highest() -> None:
    table = report.table({"ardiq": [*rates(1000, 3000, 2000), {}], "rq": [{"p50 ms": 1.23456}]})
    assert table.splitlines() == [
        "| | jobs/s | p50 ms |",
        "|---|---|---|",
        "| ardiq | 2,000 (1,000–3,000) | – |",
        "| rq | – | 1.23 (1.23–1.23) |",
    ]


@pytest.mark.parametrize(("percent", "expected"), [(50, 51), (99, 100), (100, 100)])
def test_percentiles(percent: int, expected: int) -> None:
    assert percentile(range(1, 101), percent) == expected


def test_every_table_of_growth_begins_with_the_row_that_the_others_are_held_against() -> None:
    figures = report.read(FIGURES)["rounds"]
    first = [next(iter(figures[scenario.name])) for scenario in SCENARIOS]
    assert first == ["10,000 waiting", "1 lane", "0 scheduled", "0 pending"]


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such priorities")
def test_server_and_harness_are_ahead_within_the_block_where_that_is_allowed_and_what_they_start_is_not(
    server_kind: Kind,
) -> None:
    ask = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
    with Stage(server_kind) as stage:
        pid = stage.cli("INFO", "server")["process_id"]
        with stage.ahead() as allowed:
            expected = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK if allowed else os.SCHED_OTHER
            assert [os.sched_getscheduler(0), os.sched_getscheduler(pid)] == [expected, expected]
            assert int(subprocess.check_output(ask)) == os.SCHED_OTHER
        assert [os.sched_getscheduler(0), os.sched_getscheduler(pid)] == [os.SCHED_OTHER, os.SCHED_OTHER]


def test_program_that_does_not_end_fails_its_run_and_not_the_series(server_kind: Kind) -> None:
    forever = [sys.executable, "-c", "import signal; signal.pause()"]

    def measure(stage: Stage, contender: Contender, size: Size) -> Rows:
        if contender is FLOOR:
            stage.say(forever, limit_s=0.2)
        return {contender.name: {"jobs/s": 1.0}}

    scenario = Scenario("endless", "One of two never ends", (FLOOR, OURS), measure)
    rows, failed = run(scenario, [FLOOR, OURS], 2, quick=True, server=server_kind)
    assert (rows, failed) == ({OURS.name: [{"jobs/s": 1.0}] * 2}, 2)

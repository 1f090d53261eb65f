"""Fixtures of the tests across the packages."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet
from tests.servers import Server


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes ten seconds or more; leave out with -m 'not slow'")


FleetFactory = Callable[..., Fleet]
ServerFactory = Callable[..., Server]
Measured = Callable[[str, float], None]
MEASURED = "measured: "


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # The figures travel with the reports, since the tests may have run in other processes.
    reports = [
        report for group in terminalreporter.stats.values() for report in group if isinstance(report, pytest.TestReport)
    ]
    figures = {
        (report.nodeid, name): value
        for report in reports
        for name, value in report.user_properties
        if name.startswith(MEASURED)
    }
    if figures:
        terminalreporter.section("measured (shown only: how fast this machine was decides no test)")
        for (nodeid, name), value in figures.items():
            terminalreporter.line(f"{value:>12,.1f}  {name.removeprefix(MEASURED)}  ({nodeid.rpartition('::')[2]})")


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """A function that has a figure shown at the end of the run: takes its name and its value."""

    def note(name: str, value: float) -> None:
        request.node.user_properties.append((f"{MEASURED}{name}", value))

    return note


@pytest.fixture
def fleet(server: Server, tmp_path: Path) -> Iterator[Fleet]:
    """Programs on a queue of their own, with the default options."""
    with closing(Fleet(server, tmp_path)) as made:
        yield made


@pytest.fixture
def make_fleet(server: Server, tmp_path: Path) -> Iterator[FleetFactory]:
    """A function that makes one: takes the app's options, and another server than the shared
    one.
    """
    with ExitStack() as made:

        def make(own: Server | None = None, **options: Any) -> Fleet:
            return made.enter_context(closing(Fleet(own or server, tmp_path, **options)))

        yield make

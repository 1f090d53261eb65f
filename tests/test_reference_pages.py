"""The lists of the reference pages agree with the code."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

import ardiq
import ardiq.errors
from ardiq.cron import CronOptions
from ardiq.dispatch import SCHEDULE_OPTIONS
from ardiq.options import _DEFAULTS
from ardiq.task import TaskOptions
from ardiq_cli.exits import ExitCode
from ardiq_cli.main import app as command_line
from benchmarks.page import FIGURES, filled
from benchmarks.report import read

DOCS = Path(__file__).resolve().parents[1] / "docs"


def first_cells(page: str, heading: str) -> list[str]:
    """The names in the first column of the table below a heading, without their backticks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    part = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    part = re.split(r"^#", part, flags=re.MULTILINE)[0]
    return re.findall(r"^\| `([^`]+)`", part, flags=re.MULTILINE)


def test_the_configuration_page_lists_every_option() -> None:
    assert sorted(first_cells("reference/configuration.md", "The app")) == sorted(_DEFAULTS)


@pytest.mark.parametrize("name", sorted(_DEFAULTS))
def test_the_configuration_page_has_the_default(name: str) -> None:
    text = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    default = _DEFAULTS[name]
    if default is not None:  # None stands for words
        assert f"`{default!r}`".replace("'", '"') == row.split("|")[3].strip().replace("_", ""), row


def test_the_configuration_page_lists_every_option_of_a_task() -> None:
    assert sorted(first_cells("reference/configuration.md", "A task")) == sorted(TaskOptions.__annotations__)


def test_the_configuration_page_lists_every_option_of_a_call() -> None:
    parameters = set(inspect.signature(ardiq.Task.options).parameters) - {"self", "more"}
    assert set(first_cells("reference/configuration.md", "A call")) == parameters


def test_the_configuration_page_lists_every_option_of_a_schedule() -> None:
    listed = first_cells("reference/configuration.md", "A schedule")
    assert tuple(listed) == SCHEDULE_OPTIONS
    assert set(CronOptions.__annotations__) - set(TaskOptions.__annotations__) == set(listed) - {"schedule", "every"}


def test_the_errors_page_lists_every_error() -> None:
    public = {
        name
        for name in ardiq.__all__
        if isinstance(value := getattr(ardiq, name), type) and issubclass(value, Exception)
    }
    control = {"Retry", "Reject", "Abort"}
    assert set(first_cells("reference/errors.md", "Raised by ArdiQ")) == public - control == set(ardiq.errors.__all__)


def commands(group: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return all commands by name, including those in groups."""
    found: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found += commands(command, f"{name} ") if inner else [(prefix + name, command)]
    return found


COMMANDS = commands(typer.main.get_command(command_line))


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_command_line_page_lists_every_option(name: str, command: Any) -> None:
    names = [name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]]
    options = {name for name in names if name.startswith("-")}
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    part = re.split(rf"^## `ardiq {re.escape(name)}.*`$", page, flags=re.MULTILINE)[1]
    part = re.split(r"^## ", part, flags=re.MULTILINE)[0]
    listed = {
        word for row in re.findall(r"^\| (.+?) \|", part, flags=re.MULTILINE) for word in re.findall(r"`(-[\w-]+)", row)
    }
    assert listed == options


def test_the_command_line_page_lists_every_exit_code() -> None:
    assert [int(code) for code in first_cells("reference/cli.md", "Exit codes")] == [code.value for code in ExitCode]


def test_the_figures_of_the_performance_page_are_those_that_were_measured() -> None:
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert filled(page, read(FIGURES)["rounds"]) == page, "stale: python -m benchmarks.page"

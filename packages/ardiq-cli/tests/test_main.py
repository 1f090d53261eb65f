"""The command line itself: help, version and usage errors.

A mistake leads to one line, not to a traceback.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

from ardiq_cli.exits import ExitCode
from ardiq_cli.main import main
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]


def test_help_names_every_command(ask: Ask) -> None:
    done = ask("--help")
    assert done.returncode == ExitCode.OK
    for command in ("run", "inspect", "schedule", "drain", "dev", "demo"):
        assert f"  {command} " in done.stdout


COMMANDS = [
    *("", "run", "dev", "demo", "drain", "inspect", "inspect queues", "inspect workers", "inspect jobs", "schedule"),
    *("schedule list", "schedule pause", "schedule resume", "schedule fire", "schedule remove"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_of_80_columns_uncut_and_shows_examples(ask: Ask, command: str) -> None:
    done = ask(*command.split(), "--help", COLUMNS="80")
    assert done.returncode == ExitCode.OK
    assert max(map(len, done.stdout.splitlines())) <= 80
    # A summary that is too long for its line would end like this; so does a usage line, in
    # brackets.
    assert "..." not in done.stdout.replace("[ARGS]...", "").replace("{NAME}...", "")
    if command != "inspect":
        assert f"Examples:\n    ardiq {command}".rstrip() in done.stdout


def test_help_loads_neither_the_queue_nor_rich() -> None:
    code = """
import sys
from ardiq_cli.main import app
app(["--help"], standalone_mode=False)
print([name for name in ("ardiq", "ardiq_core", "ardiq_worker", "rich", "asyncio", "croniter") if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


def test_version(ask: Ask) -> None:
    assert ask("--version").stdout.strip() == f"ardiq {version('ardiq-cli')}"


def test_the_console_script_is_called_ardiq() -> None:
    scripts = entry_points(group="console_scripts").select(module="ardiq_cli.main")
    assert [(script.name, script.load()) for script in scripts] == [("ardiq", main)]


@pytest.mark.parametrize("distribution", ["ardiq_client", "ardiq_worker", "ardiq_cli"])
def test_distributions_of_different_versions_are_one_line_and_status_2(
    ask: Ask, project: Path, tmp_path: Path, distribution: str
) -> None:
    (project / "tasks.py").write_text("from ardiq import Ardiq\napp = Ardiq()\n")
    (tmp_path / f"{distribution}-9.8.7.dist-info").mkdir()
    done = ask("run", "tasks:app", PYTHONPATH=str(tmp_path))
    assert done.returncode == ExitCode.USAGE
    (line,) = done.stderr.splitlines()
    name = distribution.replace("_", "-")
    assert line.startswith(f"ardiq: {name} 9.8.7 and ardiq-")
    assert "do not match: pip install" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("run",),
        ("run", "tasks:app", "--workers", "0"),
        ("run", "tasks:app", "--workers", "1000000"),
        ("run", "tasks:app", "--concurrency", "1000001"),
        ("run", "tasks:app", "--grace", "inf"),
        ("run", "tasks:app", "--concurrency", "none"),
        ("run", "tasks:app", "--log-format", "xml"),
        ("inspect", "jobs", "--state", "lost"),
        ("inspect", "jobs", "--limit", "0"),
        ("inspect", "jobs", "--limit", "1000001"),
        ("drain", "--timeout", "-1"),
    ],
)
def test_wrong_usage_is_status_2(ask: Ask, arguments: tuple[str, ...]) -> None:
    done = ask(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


COMMANDS_THAT_CONNECT = [
    ("inspect", "queues"),
    ("inspect", "jobs", "an-id"),
    ("schedule", "list"),
    ("schedule", "pause", "a-name"),
    ("drain",),
    ("run", "tasks:app"),
    ("run", "tasks:app", "--workers", "3"),
    ("dev", "tasks:app"),
]


@pytest.mark.parametrize("arguments", COMMANDS_THAT_CONNECT, ids=" ".join)
def test_unreachable_redis_is_one_line_and_status_3(
    ask: Ask, module: Callable[[str], None], arguments: tuple[str, ...]
) -> None:
    module("from ardiq import Ardiq\napp = Ardiq()\n")
    done = ask(*arguments)
    assert done.returncode == ExitCode.UNREACHABLE
    complaints = [line for line in done.stderr.splitlines() if line.startswith("ardiq: ")]
    assert len(complaints) == 1
    assert "cannot reach Redis" in complaints[0]
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_one_line_and_status_3(
    ask: Ask, module: Callable[[str], None], make_server: Callable[..., Server]
) -> None:
    module("from ardiq import Ardiq\napp = Ardiq(connect_timeout_s=0.3)\n")
    frozen = make_server()
    frozen.freeze()
    for arguments in (("run", "tasks:app"), ("inspect", "queues"), ("drain",)):
        done = ask(*arguments, ARDIQ_REDIS_URL=frozen.url)
        assert done.returncode == ExitCode.UNREACHABLE
        (line,) = done.stderr.splitlines()
        assert line.startswith("ardiq: cannot reach Redis at 127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("inspect", "jobs", "an id"), "a job id must consist of printable characters"),
        (("inspect", "jobs", "x" * 257), "a job id must have 1 to 256 characters"),
        (("inspect", "jobs", "--queue", "a b"), "queue_name must be"),
        (("inspect", "queues", "--queue", ""), "queue_name must not be blank"),
        (("inspect", "workers", "--url", ""), "redis_url must not be blank"),
        (("drain", "--queue", "{x}"), "queue_name must be"),
        (("drain", "--url", "redis://localhost:99999"), "redis_url is not usable: the port must be"),
    ],
)
def test_bad_value_is_one_line_and_status_2(ask: Ask, arguments: tuple[str, ...], said: str) -> None:
    done = ask(*arguments)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ardiq: {said}")


def test_bad_url_is_status_2_and_its_password_stays_secret(ask: Ask) -> None:
    done = ask("inspect", "queues", "--url", "ftp://me:hunter2@localhost:1")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr + done.stdout


def test_password_of_an_unreachable_server_stays_secret(ask: Ask) -> None:
    done = ask("inspect", "queues", "--verbose", "--url", "redis://me:hunter2@127.0.0.1:1")
    assert done.returncode == ExitCode.UNREACHABLE
    assert "hunter2" not in done.stderr + done.stdout


def test_verbose_shows_the_traceback_before_the_line(ask: Ask) -> None:
    done = ask("inspect", "queues", "--verbose")
    assert done.returncode == ExitCode.UNREACHABLE
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ardiq: cannot reach Redis at ")


def test_reader_that_has_seen_enough_is_no_error_of_a_command_that_only_shows(environment: dict[str, str]) -> None:
    code = """
from ardiq_cli.exits import boundary
with boundary(only_shows=True):
    for n in range(200_000):
        print(n)
"""
    readable, writable = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=writable, stderr=subprocess.PIPE, env=environment)
    os.close(writable)
    assert os.read(readable, 1) == b"0"
    os.close(readable)
    _, error = process.communicate(timeout=30)
    assert error == b""
    assert process.returncode == ExitCode.OK


@pytest.mark.parametrize("options", [(), ("--log-format", "console")])
def test_log_is_for_people_unless_asked_for_otherwise(
    ask: Ask, module: Callable[[str], None], options: tuple[str, ...]
) -> None:
    module(
        "import logging\nfrom ardiq import Ardiq\napp = Ardiq()\nlogging.getLogger('shop').warning('hello %s', 'there')\n"
    )
    first = ask("run", "tasks:app", *options).stderr.splitlines()[0]
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING \[\d+\] shop: hello there", first)


def test_json_log_is_one_object_per_line(ask: Ask, module: Callable[[str], None]) -> None:
    module(
        "import logging\nfrom ardiq import Ardiq\napp = Ardiq()\nlogging.getLogger('shop').warning('hello %s', 'there')\n"
    )
    done = ask("run", "tasks:app", "--log-format", "json")
    first = json.loads(done.stderr.splitlines()[0])
    assert (first["level"], first["logger"], first["message"]) == ("warning", "shop", "hello there")
    assert {"time", "pid"} <= set(first)

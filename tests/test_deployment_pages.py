"""The deployment pages, as far as they can be checked without Docker and systemd, which cannot run
in a test.
"""

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from ardiq.options import _DEFAULTS
from tests.reader import blocks
from tests.test_docs import DOCS
from tests.test_reference_pages import COMMANDS

DOCKER = {block.title: block.code for block in blocks(DOCS / "how-to" / "docker.md")}
SYSTEMD = {block.title: block.code for block in blocks(DOCS / "how-to" / "systemd.md")}
GRACE_S = float(str(_DEFAULTS["shutdown_grace_s"]))


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(SYSTEMD["shop-worker.service"])
    return parser


def instructions() -> list[tuple[str, str]]:
    lines = DOCKER["Dockerfile"].strip().splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def docker_command() -> list[str]:
    command: list[str] = json.loads(dict(instructions())["CMD"])
    return command


def systemd_command() -> list[str]:
    return shlex.split(unit()["Service"]["ExecStart"])


@pytest.mark.parametrize(
    ("command", "files"), [(docker_command(), DOCKER), (systemd_command(), SYSTEMD)], ids=["docker", "systemd"]
)
def test_the_command_of_a_page_is_one_that_exists(command: list[str], files: dict[str, str]) -> None:
    program, name, target, *options = command
    assert Path(program).name == "ardiq"
    parameters = dict(COMMANDS)[name].params
    known = {option for parameter in parameters for option in parameter.opts if option.startswith("--")}
    assert [option for option in options if option.startswith("-") and option not in known] == []
    module, _, app = target.partition(":")
    assert f"{app} = Ardiq(" in files[f"{module}.py"]


def test_the_image_is_built_from_known_instructions() -> None:
    names = [name for name, _ in instructions()]
    assert names[0] == "FROM"
    assert names[-1] == "CMD"
    assert set(names) <= {"FROM", "RUN", "USER", "WORKDIR", "COPY", "CMD"}
    copied = [value.split()[0] for name, value in instructions() if name == "COPY"]
    assert [file for file in copied if file not in DOCKER] == []


def test_supervisors_wait_for_longer_than_the_worker() -> None:
    assert float(unit()["Service"]["TimeoutStopSec"]) > GRACE_S
    found = re.search(r"stop_grace_period: (\d+)s$", DOCKER["compose.yaml"], re.MULTILINE)
    assert found
    assert float(found[1]) > GRACE_S


def test_systemd_does_not_signal_the_workers_twice() -> None:
    assert unit()["Service"]["KillMode"] == "mixed"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze on this machine")
    program = shutil.which("true")
    assert program
    file = tmp_path / "shop-worker.service"
    # The unit as it is, but for the program and the user, which only the reader's host has.
    text = SYSTEMD["shop-worker.service"].replace("/srv/shop/venv/bin/ardiq", program)
    file.write_text(text.replace("User=shop\n", ""))
    run = subprocess.run([analyze, "verify", "--man=no", str(file)], capture_output=True, text=True, check=False)
    assert [line for line in (run.stdout + run.stderr).splitlines() if file.name in line] == []


def test_the_server_of_the_page_keeps_what_it_accepts() -> None:
    assert "--appendonly yes --maxmemory-policy noeviction" in DOCKER["compose.yaml"]

"""What users' type checkers report: mypy and pyright both check typing_cases.txt."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("typing_cases.txt")
EXPECTED = {number for number, line in enumerate(CASES.read_text().splitlines(), 1) if "# error:" in line}
# Where the packages are linked to their sources. The checkers find installed wheels by themselves.
PLACES = {str(Path(str(find_spec(name).origin)).parent.parent) for name in ("ardiq", "ardiq_core")}  # type: ignore[union-attr]
ROOTS = sorted(place for place in PLACES if Path(place).name != "site-packages")


def test_mypy_finds_the_errors_and_no_others(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    module = shutil.copy(CASES, tmp_path / "cases.py")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--output=json",
            "--cache-dir",
            str(tmp_path / "cache"),
            str(module),
        ],
        capture_output=True,
        text=True,
        env={"MYPYPATH": ":".join(ROOTS), "PATH": os.environ["PATH"]},
    )
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert {item["line"] for item in found if item["severity"] == "error"} == EXPECTED, run.stdout + run.stderr
    lines = CASES.read_text().splitlines()
    for item in found:
        if item["severity"] == "error":
            assert item["code"] in lines[item["line"] - 1].partition("# error:")[2], item


def test_pyright_finds_the_errors_and_no_others(tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    config = {"extraPaths": ROOTS, "typeCheckingMode": "standard", "pythonVersion": "3.11", "include": ["*.py"]}
    shutil.copy(CASES, tmp_path / "cases.py")
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps(config))
    run = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(project)],
        capture_output=True,
        text=True,
    )
    found = json.loads(run.stdout)["generalDiagnostics"]
    errors = {item["range"]["start"]["line"] + 1 for item in found if item["severity"] == "error"}
    assert errors == EXPECTED, run.stdout

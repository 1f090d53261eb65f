"""Facts that are stated in several places of the repository agree."""

import re
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tools.file_lengths import LIMIT, over_limit

ROOT = Path(__file__).parents[1]
PACKAGES = ["ardiq-core", "ardiq-client", "ardiq-worker", "ardiq-cli"]
SIBLING = {"ardiq-client": "ardiq-core", "ardiq-worker": "ardiq-client", "ardiq-cli": "ardiq-worker"}
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def version() -> str:
    return str(Version(toml(ROOT / "Cargo.toml")["workspace"]["package"]["version"]))


def requirements_of(package: str) -> list[Requirement]:
    return [Requirement(line) for line in distribution(package).requires or []]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_distribution_has_the_one_version(package: str) -> None:
    assert distribution(package).version == version()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_distribution_needs_the_same_python(package: str) -> None:
    assert distribution(package).metadata["Requires-Python"] == ">=3.11"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_pyproject_spells_the_version(package: str) -> None:
    text = (ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8")
    assert "version" in toml(ROOT / "packages" / package / "pyproject.toml")["project"]["dynamic"]
    assert f'"{version()}"' not in text


@pytest.mark.parametrize(("package", "sibling"), SIBLING.items())
def test_siblings_are_pinned_exactly(package: str, sibling: str) -> None:
    ours = [each for each in requirements_of(package) if each.name.startswith("ardiq")]
    assert [str(each) for each in ours] == [f"{sibling}=={version()}"]


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("ardiq-core", set[str]()),
        ("ardiq-client", {"msgpack"}),
        ("ardiq-worker", {"croniter", "tzdata"}),
        ("ardiq-cli", {"typer", "rich", "watchfiles"}),
    ],
)
def test_each_distribution_depends_on_little(package: str, others: set[str]) -> None:
    required = {each.name for each in requirements_of(package) if each.marker is None}
    assert required - set(PACKAGES) == others


def test_no_two_distributions_have_an_import_package_in_common() -> None:
    # If two distributions install files into one package, removing either breaks it.
    imports = {
        package: sorted(path.parent.name for path in (ROOT / "packages" / package).glob("*/*/__init__.py"))
        for package in PACKAGES
    }
    assert imports == {
        "ardiq-core": ["ardiq_core"],
        "ardiq-client": ["ardiq"],
        "ardiq-worker": ["ardiq_worker"],
        "ardiq-cli": ["ardiq_cli"],
    }
    for package in SIBLING:
        wheel = toml(ROOT / "packages" / package / "pyproject.toml")["tool"]["hatch"]["build"]["targets"]["wheel"]
        assert [Path(place).name for place in wheel["packages"]] == imports[package]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_carries_the_licence(package: str) -> None:
    assert (ROOT / "packages" / package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_python_packages_share_one_build_hook() -> None:
    hooks = {(ROOT / "packages" / package / "hatch_build.py").read_bytes() for package in SIBLING}
    assert len(hooks) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_that_it_is_typed(package: str) -> None:
    assert len(list((ROOT / "packages" / package).glob("*/ardiq*/py.typed"))) == 1


def test_every_tool_and_dependency_has_a_pinned_version() -> None:
    pinned = {
        Requirement(line).name
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    }
    groups: dict[str, list[str | dict[str, str]]] = toml(ROOT / "pyproject.toml")["dependency-groups"]
    asked = {Requirement(entry).name for entries in groups.values() for entry in entries if isinstance(entry, str)}
    used = {each.name for package in PACKAGES for each in requirements_of(package)} - set(PACKAGES)
    assert asked | used <= pinned


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_the_version_beside_it(workflow: Path) -> None:
    uses = re.findall(r"uses:\s*(.+)", workflow.read_text(encoding="utf-8"))
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", line)] == []


def test_two_workflows_are_there() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]


def test_no_wheel_and_no_link_is_in_the_tree() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a clone: there is nothing to ask what belongs to it")
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    strays = [line for line in listed.splitlines() if line.startswith("120000") or line.endswith(".whl")]
    assert not strays


@pytest.mark.parametrize(("lines", "complaints"), [(LIMIT, 0), (LIMIT + 1, 1)])
def test_a_file_over_the_limit_is_found(tmp_path: Path, lines: int, complaints: int) -> None:
    path = tmp_path / "module.py"
    path.write_text("pass\n" * lines, encoding="utf-8")
    assert len(over_limit([path])) == complaints

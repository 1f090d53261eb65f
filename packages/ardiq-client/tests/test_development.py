"""Whether the development server of a project is found, and nothing that only looks like one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ardiq import development
from ardiq.development import DIRECTORY, FILE, find_server, identity, project_of

Describe = Callable[..., Path]

NOTHING = (None, None, None)


def url_in(place: Path) -> str:
    """The URL of a socket that no other user can replace."""
    return f"unix://{os.path.realpath(place / DIRECTORY)}/some.sock"


def test_the_server_is_found_from_the_project_and_below(project: Path, describe: Describe) -> None:
    describe(project)
    below = project / "src" / "shop"
    below.mkdir(parents=True)
    for place in (project, below):
        server, unused, _ = find_server(str(place))
        assert server == (url_in(project), str(project), os.getpid())
        assert unused is None
    assert find_server() == find_server(str(project))


def test_the_nearest_server_is_used(project: Path, describe: Describe) -> None:
    describe(project)
    inner = project / "inner"
    inner.mkdir()
    describe(inner)
    found = find_server(str(inner)).server
    assert found is not None
    assert found.url == url_in(inner)


@pytest.mark.parametrize("mark", ["pyproject.toml", ".git"])
def test_the_search_ends_at_the_top_of_the_project(project: Path, describe: Describe, mark: str) -> None:
    describe(project)
    inner = project / "inner"
    inner.mkdir()
    (inner / mark).touch()
    assert find_server(str(inner)) == NOTHING


def test_the_search_does_not_enter_the_home_directory(
    project: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pyproject.toml").unlink()
    describe(project)
    inner = project / "inner"
    inner.mkdir()
    assert find_server(str(inner)).server is not None
    monkeypatch.setenv("HOME", str(project))
    assert find_server(str(inner)) == NOTHING
    assert find_server(str(project)).server is not None, "but it may start there"


def test_the_search_does_not_enter_the_directories_of_others(
    project: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pyproject.toml").unlink()
    describe(project)
    inner = project / "inner"
    inner.mkdir()
    monkeypatch.setattr(development, "_is_own", lambda place: False)
    assert find_server(str(inner)) == NOTHING


def test_a_current_directory_that_is_gone_is_no_error(project: Path) -> None:
    project.joinpath("pyproject.toml").unlink()
    project.rmdir()
    assert find_server() == NOTHING


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


OTHERS: dict[str, dict[str, Any]] = {
    "a process that has ended": {"pid": dead_pid},
    "a number that is used again": {"started": "1"},
    "another machine": {"machine": "another"},
    "a server elsewhere": {"url": "redis://elsewhere:6379"},
    "a server here, but not in a file": {"url": "redis://localhost:6379"},
    "no URL": {"url": None},
    "no number": {"pid": True},
    "a number of no process": {"pid": -1},
    "no start": {"started": None},
}


@pytest.mark.parametrize("facts", OTHERS.values(), ids=OTHERS)
def test_a_file_about_another_process_machine_or_network_is_ignored(
    project: Path, describe: Describe, facts: dict[str, Any]
) -> None:
    describe(project, **{name: value() if callable(value) else value for name, value in facts.items()})
    assert find_server() == (None, str(project), None)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 4000, b'{"url": 1}'])
def test_a_file_that_is_none_of_ours_is_ignored(project: Path, describe: Describe, content: bytes) -> None:
    describe(project).write_bytes(content)
    assert find_server() == (None, str(project), None)


def test_what_others_can_write_is_ignored(project: Path, describe: Describe) -> None:
    file = describe(project)
    for place, mode in ((file, 0o602), (file, 0o620), (file.parent, 0o707), (file.parent, 0o770)):
        before = place.stat().st_mode
        place.chmod(mode)
        assert find_server() == (None, str(project), f"other users can write to {place}"), oct(mode)
        place.chmod(before)
    assert find_server().server is not None


def test_a_socket_that_others_can_replace_is_ignored(project: Path, describe: Describe, tmp_path: Path) -> None:
    sockets = tmp_path / "sockets"
    sockets.mkdir(mode=0o700)
    describe(project, url=f"unix://{sockets}/some.sock")
    assert find_server().server is not None, "the server may be about to start"
    sockets.chmod(0o707)
    assert find_server() == (None, str(project), f"other users can write to {sockets}")
    sockets.rmdir()
    assert find_server() == (None, str(project), None)


def test_what_another_user_has_written_is_ignored(
    project: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = describe(project)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find_server() == (None, str(project), f"{file.parent} belongs to another user")


def test_links_and_pipes_are_ignored(project: Path, describe: Describe, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = describe(elsewhere)
    directory = project / DIRECTORY
    directory.symlink_to(target.parent)
    assert find_server() == (None, str(project), f"{directory} is a symbolic link")
    directory.unlink()
    directory.mkdir(mode=0o700)
    link = directory / FILE
    link.symlink_to(target)
    assert find_server() == (None, str(project), f"{link} is a symbolic link")
    link.unlink()
    os.mkfifo(link, 0o600)
    assert find_server().server is None


def test_the_start_of_a_process_is_known_without_proc() -> None:
    own = development._start_by_ps(os.getpid())
    assert own
    assert development._start_by_ps(os.getpid()) == own
    assert development._start_by_ps(dead_pid()) is None


def test_a_process_that_was_not_waited_for_does_not_run() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as ended:
        assert ended.stdout is not None
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert identity(ended.pid) is None
        assert development._start_by_ps(ended.pid) is None


def test_a_machine_without_a_boot_id_may_change_its_name(
    project: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(development, "_BOOT_ID", "/nonexistent")
    describe(project)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Darwin", "renamed", "24.0", "v", "arm64")))
    assert find_server().server is not None


def test_a_project_may_have_the_longest_path_in_any_script(project: Path, describe: Describe) -> None:
    describe(project, note="п" * 2000)  # 12 kB of JSON
    assert find_server().server is not None


def test_a_copy_of_a_project_does_not_use_the_server_of_the_original(
    project: Path, describe: Describe, tmp_path: Path
) -> None:
    describe(project)
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    assert find_server(str(copy)) == (None, str(copy), None)
    assert find_server(str(project)).server is not None


def test_the_project_of_a_directory_is_the_one_in_which_a_search_ends(project: Path, tmp_path: Path) -> None:
    below = project / "src"
    below.mkdir()
    assert project_of(str(below)) == project_of() == str(project)
    assert project_of(str(tmp_path)) == str(tmp_path), "there is no project"


def test_the_home_directory_is_no_project_of_what_lies_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    plain = tmp_path / "plain"
    plain.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert project_of(str(plain)) == str(plain)

"""Whether an app finds the development server of its project, and nothing that only looks like one.

No test here may connect with the default URL: the Redis behind it could belong to a user.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from ardiq import Ardiq, development
from ardiq.development import DIRECTORY, FILE, find_server, identity, project_of
from ardiq.options import DEFAULT_URL, development_locator


class Server(Protocol):
    """What a test needs to know of a server."""

    @property
    def url(self) -> str: ...


Describe = Callable[..., Path]

URL = "unix:///tmp/some.sock"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: an empty project. No variable names a server."""
    monkeypatch.delenv("ARDIQ_REDIS_URL", raising=False)
    place = tmp_path / "project"
    place.mkdir()
    (place / "pyproject.toml").touch()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def describe() -> Describe:
    """A function that writes the file of a server that this process keeps: takes the directory and
    other facts.
    """

    def write(place: Path, **facts: object) -> Path:
        directory = place / DIRECTORY
        directory.mkdir(mode=0o700, exist_ok=True)
        file = directory / FILE
        said = {"url": URL, "project": os.path.realpath(place), **(identity(os.getpid()) or {}), **facts}
        file.write_text(json.dumps(said))
        file.chmod(0o600)
        return file

    return write


def test_the_server_is_found_from_the_project_and_below(project: Path, describe: Describe) -> None:
    describe(project)
    below = project / "src" / "shop"
    below.mkdir(parents=True)
    for place in (project, below):
        server, unused = find_server(str(place))
        assert server == (URL, str(project), os.getpid())
        assert unused is None
    assert find_server() == find_server(str(project))


def test_the_nearest_server_is_used(project: Path, describe: Describe) -> None:
    describe(project)
    inner = project / "inner"
    inner.mkdir()
    describe(inner, url="unix:///tmp/inner.sock")
    found = find_server(str(inner)).server
    assert found is not None
    assert found.url == "unix:///tmp/inner.sock"


@pytest.mark.parametrize("mark", ["pyproject.toml", ".git"])
def test_the_search_ends_at_the_top_of_the_project(project: Path, describe: Describe, mark: str) -> None:
    describe(project)
    inner = project / "inner"
    inner.mkdir()
    (inner / mark).touch()
    assert find_server(str(inner)) == (None, None)


def test_the_search_does_not_enter_the_home_directory(
    project: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pyproject.toml").unlink()
    describe(project)
    inner = project / "inner"
    inner.mkdir()
    assert find_server(str(inner)).server is not None
    monkeypatch.setenv("HOME", str(project))
    assert find_server(str(inner)) == (None, None)
    assert find_server(str(project)).server is not None, "but it may start there"


def test_the_search_does_not_enter_the_directories_of_others(
    project: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pyproject.toml").unlink()
    describe(project)
    inner = project / "inner"
    inner.mkdir()
    monkeypatch.setattr(development, "_is_own", lambda place: False)
    assert find_server(str(inner)) == (None, None)


def test_a_current_directory_that_is_gone_is_no_error(project: Path) -> None:
    project.joinpath("pyproject.toml").unlink()
    project.rmdir()
    assert find_server() == (None, None)


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
    assert find_server() == (None, str(project))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 4000, b'{"url": 1}'])
def test_a_file_that_is_none_of_ours_is_ignored(project: Path, describe: Describe, content: bytes) -> None:
    describe(project).write_bytes(content)
    assert find_server() == (None, str(project))


def test_what_others_can_write_is_ignored(project: Path, describe: Describe) -> None:
    file = describe(project)
    for place, mode in ((file, 0o602), (file, 0o620), (file.parent, 0o707), (file.parent, 0o770)):
        before = place.stat().st_mode
        place.chmod(mode)
        assert find_server() == (None, str(project)), (place, oct(mode))
        place.chmod(before)
    assert find_server().server is not None


def test_what_another_user_has_written_is_ignored(
    project: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(project)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find_server() == (None, str(project))


def test_links_and_pipes_are_ignored(project: Path, describe: Describe, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = describe(elsewhere)
    (project / DIRECTORY).symlink_to(target.parent)
    assert find_server().server is None
    (project / DIRECTORY).unlink()
    (project / DIRECTORY).mkdir(mode=0o700)
    link = project / DIRECTORY / FILE
    link.symlink_to(target)
    assert find_server().server is None
    link.unlink()
    os.mkfifo(link, 0o600)
    assert find_server().server is None


def test_the_start_of_a_process_is_known_without_proc() -> None:
    own = development._start_by_ps(os.getpid())
    assert own
    assert development._start_by_ps(os.getpid()) == own
    assert development._start_by_ps(dead_pid()) is None


def test_an_app_finds_the_server_when_it_first_connects(
    make_server: Callable[..., Server],
    project: Path,
    describe: Describe,
    queue_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "ardiq")
    server = make_server(unix_socket=True)
    app = Ardiq(queue_name=queue_name)
    assert app.redis_url == DEFAULT_URL
    describe(project, url=server.url)  # after the app: nothing is looked up before it connects
    app.ref("x").enqueue_sync()
    assert app.redis_url == server.url
    assert Ardiq(server.url, queue_name).queue_size_sync() == 1
    (line,) = [record for record in caplog.records if "development server" in record.message]
    assert (line.levelname, line.name) == ("INFO", "ardiq.client")
    assert server.url in line.message
    assert str(project) in line.message


def test_an_app_keeps_the_server_that_it_has_found(
    make_server: Callable[..., Server], project: Path, describe: Describe, queue_name: str
) -> None:
    file = describe(project, url=make_server(unix_socket=True).url)
    app = Ardiq(queue_name=queue_name)
    app.ref("x").enqueue_sync()
    file.unlink()
    app._connection.forget()  # as in a forked child
    assert app.queue_size_sync() == 1


def located(app: Ardiq) -> str:
    """The URL that `app` would connect to."""
    assert app._connection._locate is not None
    app._connection._locate()
    return app.redis_url


def test_an_argument_wins_over_the_file(server: Server, project: Path, describe: Describe, queue_name: str) -> None:
    describe(project)
    app = Ardiq(server.url, queue_name)
    app.ref("x").enqueue_sync()
    assert app.redis_url == server.url
    # The default, said aloud, is a choice too.
    assert Ardiq(DEFAULT_URL)._connection._locate is None


def test_the_environment_wins_over_the_file(
    server: Server, project: Path, describe: Describe, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(project)
    early = Ardiq(queue_name=queue_name)
    monkeypatch.setenv("ARDIQ_REDIS_URL", server.url)
    app = Ardiq(queue_name=queue_name)
    app.ref("x").enqueue_sync()
    assert app.redis_url == server.url
    assert located(early) == DEFAULT_URL, "a variable that is set later keeps the file out too"


def test_a_project_without_its_server_is_a_warning(
    project: Path, describe: Describe, caplog: pytest.LogCaptureFixture
) -> None:
    describe(project, machine="another")
    assert located(Ardiq()) == DEFAULT_URL
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert f"no development server runs for {project}" in line.message
    assert "start `ardiq dev` there, or set $ARDIQ_REDIS_URL" in line.message


def test_a_directory_without_any_of_it_is_no_warning(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert located(Ardiq()) == DEFAULT_URL
    assert caplog.records == []


def test_a_log_handler_may_use_the_app(
    make_server: Callable[..., Server],
    project: Path,
    describe: Describe,
    queue_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "ardiq")
    describe(project, url=make_server(unix_socket=True).url)
    app = Ardiq(queue_name=queue_name)

    class Queued(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            app.ref("log").enqueue_sync(record.getMessage())

    handler = Queued()
    logging.getLogger("ardiq.client").addHandler(handler)
    try:
        app.ref("x").enqueue_sync()
    finally:
        logging.getLogger("ardiq.client").removeHandler(handler)
    assert app.queue_size_sync() == 2


def test_an_app_that_names_its_server_does_not_load_the_search(server: Server, queue_name: str) -> None:
    code = (
        "import sys, ardiq; app = ardiq.Ardiq(*sys.argv[1:]); app.queue_size_sync(); "
        "print([name for name in sys.modules if name.startswith('ardiq.dev')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.url, queue_name], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_copy_of_a_project_does_not_use_the_server_of_the_original(
    project: Path, describe: Describe, tmp_path: Path
) -> None:
    describe(project)
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    assert find_server(str(copy)) == (None, str(copy))
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


def test_threads_that_connect_at_the_same_time_all_use_the_server(
    project: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(project)
    is_searching, go_on = threading.Event(), threading.Event()
    search = development.find_server

    def slow() -> development.Search:
        is_searching.set()
        assert go_on.wait(20)
        return search()

    monkeypatch.setattr(development, "find_server", slow)
    options: dict[str, Any] = {"redis_url": DEFAULT_URL}
    locate = development_locator(None, options)
    assert locate is not None
    seen: list[str] = []

    def connect() -> None:
        locate()
        seen.append(options["redis_url"])

    first = threading.Thread(target=connect)
    first.start()
    assert is_searching.wait(20)
    second = threading.Thread(target=connect)
    second.start()
    second.join(0.1)
    assert seen == [], "the second waits for the search"
    go_on.set()
    first.join(20)
    second.join(20)
    assert seen == [URL, URL]

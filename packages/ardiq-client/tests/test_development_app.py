"""Which server an app without a URL uses, and what it logs about it.

No test here may connect with the default URL: the Redis behind it would belong to the user.
"""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from ardiq import Ardiq, development
from ardiq.development import find_server
from ardiq.options import DEFAULT_URL, development_locator


class Server(Protocol):
    """What a test needs to know of a server."""

    @property
    def url(self) -> str: ...


Describe = Callable[..., Path]


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
    describe(project, url=server.url)  # after the app was created: it looks nothing up before it connects
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
    # Passing the default explicitly is a choice too.
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


@pytest.mark.parametrize("value", [None, ""])
def test_a_project_without_its_server_is_a_warning(
    project: Path,
    describe: Describe,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    value: str | None,
) -> None:
    if value is not None:
        monkeypatch.setenv("ARDIQ_REDIS_URL", value)
    describe(project, machine="another")
    assert located(Ardiq()) == DEFAULT_URL
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert f"no development server is running for {project}, so {DEFAULT_URL} is used" in line.message
    assert "start `ardiq dev` there, or set $ARDIQ_REDIS_URL" in line.message


def test_a_file_that_is_not_trusted_is_a_warning_that_says_why(
    project: Path, describe: Describe, caplog: pytest.LogCaptureFixture
) -> None:
    file = describe(project)
    file.chmod(0o666)
    assert located(Ardiq()) == DEFAULT_URL
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert line.message.startswith(f"other users can write to {file}, so its development server is ignored")
    assert line.message.endswith("set $ARDIQ_REDIS_URL")


def test_an_empty_variable_names_no_server(project: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch) -> None:
    describe(project)
    monkeypatch.setenv("ARDIQ_REDIS_URL", "")
    found = find_server().server
    assert found is not None
    assert located(Ardiq()) == found.url


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
    found = search().server
    assert found is not None
    assert seen == [found.url] * 2

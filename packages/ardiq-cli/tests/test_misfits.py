"""Values that cannot be valid do not hide the valid ones in a listing."""

import json
import re
import subprocess
from collections.abc import Callable

import pytest

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
OnTerminal = Callable[..., tuple[int, str]]
MakeServer = Callable[..., Server]

LONG = "long" * 500


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """A separate server: the data that is written to it must not disturb other tests."""
    return make_server()


@pytest.fixture
def app(server: Server) -> Ardiq:
    return Ardiq(redis_url=server.url, queue_name="hostile")


def plain(screen: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", screen)


def test_a_name_that_is_too_long_does_not_push_out_the_other_columns(
    app: Ardiq, server: Server, on_terminal: OnTerminal
) -> None:
    job = app.ref("some.task").enqueue_sync()
    key = "ardiq:{hostile}:"
    server.cli("SADD", "ardiq:queues", LONG)
    server.cli("SADD", f"{key}lanes", LONG)
    server.cli("XADD", f"{key}lane:{LONG}", "*", "label", "envelope")
    server.cli("ZADD", f"{key}workers", 1, LONG)
    ((entry, _),) = server.cli("XRANGE", f"{key}lane:default", "-", "+")
    server.cli("HSET", f"{key}running", job.id, f"{entry.decode()} {LONG} 1 1")
    listings = {
        "queues": ("waiting", "running", "dead", "workers"),
        "workers": ("held", "lease left"),
        "jobs": ("age",),
    }
    for what, columns in listings.items():
        where = () if what == "queues" else ("--queue", "hostile")
        _, screen = on_terminal("inspect", what, *where, "--url", server.url, columns=80)
        assert all(column in screen for column in columns), screen
        assert "longlonglon…" in screen
        assert "longlonglong" not in screen
        assert "too long to be valid are shortened" in screen.replace("\r\n", " ")
        assert all(len(line) <= 80 for line in plain(screen).splitlines() if "│" in line)


def bury(server: Server, *fields: str) -> None:
    server.cli("XADD", "ardiq:{hostile}:dead", "*", *fields)


def test_a_dead_letter_whose_id_is_too_long_does_not_push_out_the_other_columns(
    app: Ardiq, server: Server, ask_here: Ask, on_terminal: OnTerminal
) -> None:
    valid = "i" * 256
    bury(server, "id", valid, "record", "")
    listing = ("inspect", "jobs", "--queue", "hostile", "--state", "dead", "--url", server.url)
    _, screen = on_terminal(*listing, columns=80)
    assert valid in screen, "a valid id is never cut"
    server.cli("DEL", "ardiq:{hostile}:dead")
    bury(server, "id", LONG * 400, "record", "")
    _, screen = on_terminal(*listing, columns=80)
    assert "longlonglon…" in screen
    assert all(column in screen for column in ("status", "task", "age"))
    assert len(screen) < 5000
    (found,) = json.loads(ask_here(*listing, "--json").stdout)
    assert found["task_id"] == LONG * 400


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_foreign_entries_among_the_dead_letters_are_counted(
    app: Ardiq, server: Server, ask_here: Ask, options: tuple[str, ...]
) -> None:
    app.ref("some.task").enqueue_sync()
    listing = ("inspect", "jobs", "--queue", "hostile", "--state", "dead", "--url", server.url, *options)
    for _ in range(2):
        bury(server, "a", "b")
    done = ask_here(*listing)
    assert done.returncode == ExitCode.OK
    assert "There are no" not in done.stdout
    assert "2 entries in ardiq:{hostile}:dead cannot be read as dead letters" in done.stderr
    bury(server, "id", "dead", "record", "")
    assert "2 entries" in ask_here(*listing).stderr
    assert "cannot be read" not in ask_here(*listing, "--limit", "1").stderr

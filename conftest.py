"""Fixtures for all tests of the repository: a server, a unique queue name, and further servers that
a test may break.
"""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.servers import KINDS, Kind, Server, binary

ServerFactory = Callable[..., Server]

# A shell starts background programs with SIGINT ignored, and nohup starts programs with SIGHUP
# ignored. All programs that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def server_kind() -> Kind:
    """The server that the tests run against: $ARDIQ_TEST_SERVER, else Redis if it is installed,
    else Valkey.
    """
    asked = os.environ.get("ARDIQ_TEST_SERVER")
    if not asked:
        return "redis" if binary("redis") else "valkey"
    for kind in KINDS:
        if kind == asked:
            return kind
    pytest.exit(f"ARDIQ_TEST_SERVER must be one of {', '.join(KINDS)}, not {asked!r}", returncode=4)


@pytest.fixture(scope="session")
def server(server_kind: Kind) -> Iterator[Server]:
    """The server that the tests of one session share.

    A test that stops or empties a server uses `make_server`.
    """
    with Server(server_kind) as shared:
        yield shared


@pytest.fixture
def make_server(server_kind: Kind) -> Iterator[ServerFactory]:
    """A function that starts further servers for one test: takes the keyword arguments of
    `Server`.
    """
    with ExitStack() as servers:

        def start(**options: object) -> Server:
            return servers.enter_context(Server(server_kind, **options))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def queue_name() -> str:
    """A queue that no other test uses."""
    return f"test-{uuid.uuid4().hex}"

"""Each fault has its own exception, which programs can distinguish, copy and send to other
processes.
"""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

import pytest

import ardiq
from ardiq import (
    Ardiq,
    ArdiqError,
    BrokerClosedError,
    BrokerDataError,
    BrokerError,
    BrokerRefusedError,
    BrokerUnfitError,
    BrokerUnreachableError,
    SystemResourceError,
    errors,
)


class Server(Protocol):
    """What a test needs to know of a server."""

    @property
    def url(self) -> str: ...
    def cli(self, *command: str) -> Any: ...


def unreachable(app: Ardiq, server: Server) -> None:
    Ardiq("redis://127.0.0.1:1", connect_timeout_s=0.1).queue_size_sync()


def refused(app: Ardiq, server: Server) -> None:
    server.cli("CONFIG", "SET", "maxmemory", "1")
    app.ref("work").enqueue_sync()


def unfit(app: Ardiq, server: Server) -> None:
    server.cli("CONFIG", "SET", "maxmemory", "100mb")
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    app.ref("work").enqueue_sync()


def closed(app: Ardiq, server: Server) -> None:
    app._connection.close()
    app.queue_size_sync()


def unreadable(app: Ardiq, server: Server) -> None:
    job = app.ref("work").options(task_id="readable").enqueue_sync()
    (key,) = (key for key in server.cli("KEYS", "*") if key.endswith(b"readable"))
    server.cli("SET", key, "R12345678 is no result")
    job.result_sync()


FAULTS: dict[type[BrokerError], Callable[[Ardiq, Server], None]] = {
    BrokerUnreachableError: unreachable,
    BrokerRefusedError: refused,
    BrokerUnfitError: unfit,
    BrokerClosedError: closed,
    BrokerDataError: unreadable,
}


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_each_fault_of_the_broker_has_an_exception(kind: type[BrokerError], make_server: Callable[..., Server]) -> None:
    server = make_server()
    with pytest.raises(BrokerError) as caught:
        FAULTS[kind](Ardiq(server.url), server)
    assert type(caught.value) is kind
    assert isinstance(caught.value, RuntimeError)


def test_the_faults_are_all_there_are() -> None:
    known = {getattr(errors, name) for name in errors.__all__}
    assert set(FAULTS) == {kind for kind in known if issubclass(kind, BrokerError)} - {BrokerError}


async def test_enqueues_of_an_event_loop_fail_with_the_same_exception() -> None:
    app = Ardiq("redis://127.0.0.1:1", connect_timeout_s=0.1)
    with pytest.raises(BrokerUnreachableError):
        await app.send("work")


def test_missing_descriptors_are_an_error_of_the_system() -> None:
    script = (
        "import ardiq, errno, os, resource\n"
        "app = ardiq.Ardiq('redis://127.0.0.1:1', connect_timeout_s=0.1)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "try: app.queue_size_sync()\n"
        "except OSError as error: print(type(error).__name__, errno.errorcode[error.errno], error)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60)
    assert run.stdout.startswith("SystemResourceError EMFILE "), run.stdout
    assert "raise the limit of open files" in run.stdout
    assert issubclass(SystemResourceError, ArdiqError)
    assert not issubclass(SystemResourceError, BrokerError)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_exception_survives_pickling_and_copying(name: str) -> None:
    kind: type[Exception] = getattr(ardiq, name)
    for error in (kind("what happened"), kind(24, "what happened")):
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(other) is kind
            assert other.args == error.args
            assert str(other) == str(error)

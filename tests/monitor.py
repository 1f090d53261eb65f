"""Shows what the server did, according to its own records and clock."""

import re
import socket
import threading
from types import TracebackType
from typing import NamedTuple, Self

from tests.servers import Server

_LINE = re.compile(rb'\+(\d+\.\d+) \[\d+ [^\]]*\] "(\w+)"(.*)')


class Command(NamedTuple):
    """One command, also from inside a script; `rest` are its arguments as MONITOR prints them."""

    at_ms: float
    name: str
    rest: str


class Monitor:
    """Listens to all commands of a server during a `with` block; `commands` are complete at its
    end.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self._lines = self._socket.makefile("rb")
        self._thread = threading.Thread(target=self._listen)
        self._mark = f"end-of-{id(self)}"
        self.commands: list[Command] = []

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        assert self._lines.readline() == b"+OK\r\n"
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._server.cli("ECHO", self._mark)
            self._thread.join()
        self._lines.close()
        self._socket.close()

    def named(self, name: str, containing: str = "") -> list[Command]:
        return [each for each in self.commands if each.name == name and containing in each.rest]

    def commits(self, key: str) -> list[str]:
        """Return the jobs for which a result was written, once for each time.

        `key` is the prefix of job records.
        """
        written = re.compile(rf' "{re.escape(key)}([^"]+)" (?:"\d+" )?"[RT]')
        found = (written.match(each.rest) for each in self.commands if each.name in ("SET", "PSETEX"))
        return [match[1] for match in found if match]

    def _listen(self) -> None:
        for line in self._lines:
            match = _LINE.match(line)
            if match is None:
                continue
            command = Command(float(match[1]) * 1000, match[2].decode().upper(), match[3].decode("ascii", "replace"))
            if command.name == "ECHO" and self._mark in command.rest:
                return
            self.commands.append(command)

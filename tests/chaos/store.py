"""The server of a run: its data survives any fault of its process, and its append-only file records
every write.

It keeps an append-only file and flushes it before it answers, so a restart forgets nothing. The
same file says afterwards which results were written, in their order.
"""

import asyncio
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import redis

from tests.servers import Kind, Server

USER, PASSWORD = "chaos", "canary-of-chaos"
HEAL_S = 20.0


class Command(NamedTuple):
    """One command of the append-only file, with the second of the server's clock in which it was
    written.
    """

    second: int
    words: list[bytes]

    def __str__(self) -> str:
        """The command, with the record of a job shortened to what can be read."""
        return f"{self.second} " + " ".join(_printable(word) for word in self.words)


class Store:
    """The server, and the user as whom workers and producers come to it."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        users = directory / "users.acl"
        users.write_text(f"user {USER} on >{PASSWORD} ~* &* +@all\nuser default on nopass ~* &* +@all\n")
        self.server = Server(
            kind,
            append_only=True,
            options={
                "appendfsync": "always",
                "aof-timestamp-enabled": "yes",
                "auto-aof-rewrite-percentage": "0",
                "aclfile": str(users),
            },
        )

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.stop)

    async def kill(self) -> None:
        await asyncio.to_thread(self.server.kill)

    async def ask(self, *command: str | int) -> Any:
        """One command, as an administrator; tried until the server answers."""
        async with asyncio.timeout(HEAL_S):
            while True:
                try:
                    return await asyncio.to_thread(self.server.cli, *command)
                except redis.ConnectionError:
                    await asyncio.sleep(0.05)

    async def rights(self, *rules: str) -> None:
        """Change what workers and producers may do: rules of an access control list."""
        await self.ask("ACL", "SETUSER", USER, *rules)

    def url(self, port: int) -> str:
        """The address for a process that comes through the link at `port`."""
        return f"redis://{USER}:{PASSWORD}@127.0.0.1:{port}"

    def keep_history(self, directory: Path) -> None:
        """Copy the append-only files and the server's log to a place that outlives the server."""
        shutil.copytree(self.server.directory / "appendonlydir", directory / "appendonlydir")
        shutil.copy2(self.server.directory / "server.log", directory)

    def history(self) -> Iterator[Command]:
        """All writes, in order."""
        folder = self.server.directory / "appendonlydir"
        parts = sorted(folder.glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))
        for part in parts:
            with part.open("rb") as file:
                yield from _commands(file)


class Records:
    """The outcome of the jobs, according to the server.

    `stored`: jobs that the server has accepted. `commits`: of each job the results that were
    written for it.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self.stored: set[str] = set()
        self.commits: dict[str, list[str]] = {}
        prefix = f"ardiq:{{{queue}}}:job:".encode()
        for command in store.history():
            for key, value in _strings(command):
                if not key.startswith(prefix):
                    continue
                job = key.removeprefix(prefix).decode()
                if value[:1] in (b"q", b"d"):
                    self.stored.add(job)
                else:
                    self.commits.setdefault(job, []).append(str(command))


def _strings(command: Command) -> Iterable[tuple[bytes, bytes]]:
    """The strings that a command has written, each with its key."""
    name, *words = command.words
    match name.upper():
        case b"SET":
            return [(words[0], words[1])]
        case b"SETEX" | b"PSETEX":
            return [(words[0], words[2])]
        case b"MSET" | b"MSETNX":
            return zip(words[::2], words[1::2], strict=True)
        case _:
            return []


def about(store: Store, job: str) -> list[str]:
    """The commands that name a job."""
    return [str(command) for command in store.history() if any(job.encode() in word for word in command.words)]


def _commands(file: BinaryIO) -> Iterator[Command]:
    second = 0
    while line := file.readline():
        if line.startswith(b"#TS:"):
            second = int(line[4:])
        elif line.startswith(b"*"):
            words: list[bytes] = []
            for _ in range(int(line[1:])):
                size = int(file.readline()[1:])
                words.append(file.read(size + 2)[:size])
            yield Command(second, words)


def _printable(word: bytes) -> str:
    text = re.sub(r"[^\x20-\x7e]+", "·", word.decode("ascii", "replace").replace("\ufffd", "·"))
    return text if len(text) <= 120 else f"{text[:117]}..."

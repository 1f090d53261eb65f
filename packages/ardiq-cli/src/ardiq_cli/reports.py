"""Messages from a worker process to its supervisor: it has started, or it has emptied the queue.

The exit status cannot say either. Any code in the process may exit with status 0 while jobs are
still waiting. Each message is a line: one letter, and after the first one what the process serves,
as JSON.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

_STARTED = b"s"
_DRAINED = b"d"


class Reports:
    """The supervisor's end. Pass `descriptor` to the child, then call `handed_over`."""

    def __init__(self) -> None:
        self._readable, self.descriptor = os.pipe()
        os.set_blocking(self._readable, False)
        self._said = b""
        self._watching: asyncio.AbstractEventLoop | None = None

    def handed_over(self) -> None:
        """Close our copy of the descriptor: the child has its own, or there is no child."""
        os.close(self.descriptor)

    def watch(self, on_word: Callable[[], object]) -> None:
        """Call `on_word` on the running loop when the child sends its first message."""
        self._watching = asyncio.get_running_loop()
        self._watching.add_reader(self._readable, self._hear, on_word)

    @property
    def drained(self) -> bool:
        """Whether the child has reported that it emptied the queue."""
        return any(line.startswith(_DRAINED) for line in self._lines())

    @property
    def serves(self) -> dict[str, str]:
        """What the child serves, according to its report; empty before that."""
        for line in self._lines():
            if line.startswith(_STARTED) and len(line) > 1:
                found: dict[str, str] = json.loads(line[1:])
                return found
        return {}

    def close(self) -> None:
        self._unwatch()
        os.close(self._readable)

    def _hear(self, on_word: Callable[[], object]) -> None:
        self._unwatch()
        self._read()
        if self._said:
            on_word()
        # Otherwise the child died before it sent a message. The supervisor handles its exit.

    def _lines(self) -> list[bytes]:
        """The complete messages so far."""
        self._read()
        return self._said.split(b"\n")[:-1]

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while piece := os.read(self._readable, 4096):
                self._said += piece

    def _unwatch(self) -> None:
        if self._watching is not None:
            self._watching.remove_reader(self._readable)
            self._watching = None


class Reporter:
    """The child's end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_inheritable(descriptor, False)

    def started(self, serves: Mapping[str, str] | None = None) -> None:
        """Report the start, and what this process serves: server, queue and worker id."""
        self._say(_STARTED + (json.dumps(serves).encode() if serves else b""))

    def drained(self) -> None:
        self._say(_DRAINED)

    def _say(self, word: bytes) -> None:
        with suppress(BrokenPipeError):  # the supervisor is gone, and takes this process with it
            os.write(self._descriptor, word + b"\n")

"""Ties a process to its parent, so that it cannot outlive it, however the parent ends.

On Linux the kernel does it: PR_SET_PDEATHSIG sends SIGKILL to a process when the thread that
started it is gone. Elsewhere the process watches a pipe whose only other end the parent holds: it
reads end-of-file when the parent dies.

A Python process ties itself (`tie`). Any other program is started through this file run as a
script, which on Linux ties itself and then becomes that program, and elsewhere stays as a guard
beside it. So this file may import nothing but the standard library.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType

_PR_SET_PDEATHSIG = 1


class Tether:
    """The parent's end. Pass `fds` and `argument` to the child."""

    def __init__(self, *, by_kernel: bool = sys.platform == "linux") -> None:
        self._watched: int | None = None
        self._held: int | None = None
        if not by_kernel:
            # The end that the parent holds is not inheritable, so it closes when the parent dies,
            # and not before.
            self._watched, self._held = os.pipe()

    @property
    def fds(self) -> tuple[int, ...]:
        """File descriptors that the child must inherit."""
        return () if self._watched is None else (self._watched,)

    @property
    def argument(self) -> str:
        """What `tie` needs to know, as one word."""
        return f"{os.getpid()}:{'' if self._watched is None else self._watched}"

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs `command` tied to this process."""
        # -I: nothing of the environment or of this directory gets into sys.path; -S: no site, so it
        # starts fast.
        return [sys.executable, "-I", "-S", __file__, self.argument, *command]

    def close(self) -> None:
        for fd in (self._watched, self._held):
            if fd is not None:
                os.close(fd)
        self._watched = self._held = None


def tie(argument: str) -> None:
    """Tie this process to its parent. `argument` comes from the parent's `Tether`."""
    parent, watched = _parse(argument)
    if watched is not None:
        threading.Thread(target=_die_at_end_of, args=(watched, os.getpid()), daemon=True).start()
        return
    _ask_kernel()
    if os.getppid() != parent:
        # The parent died before the kernel knew of the tie, so no signal will arrive.
        os.kill(os.getpid(), signal.SIGKILL)


def _parse(argument: str) -> tuple[int, int | None]:
    parent, _, watched = argument.partition(":")
    return int(parent), int(watched) if watched else None


def _ask_kernel() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")


def _die_at_end_of(watched: int, pid: int) -> None:
    while os.read(watched, 1):
        pass
    os.kill(pid, signal.SIGKILL)


def guard(watched: int, command: Sequence[str]) -> int:
    """Run `command`, and kill it when the parent is gone. Return its exit status."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(received: int, _frame: FrameType | None) -> None:
        if child is None:
            early.append(received)
        else:
            child.send_signal(received)

    # Do this before there is a child: it may be told to stop as soon as it exists, before this
    # process continues.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    child = subprocess.Popen(command)
    for received in early:
        child.send_signal(received)
    threading.Thread(target=_die_at_end_of, args=(watched, child.pid), daemon=True).start()
    status = child.wait()
    return 128 - status if status < 0 else status


def main(arguments: Sequence[str]) -> int:
    argument, *command = arguments
    _, watched = _parse(argument)
    if watched is not None:
        return guard(watched, command)
    tie(argument)
    # The parent may have blocked signals for itself, but the program must still receive the
    # signals that stop it.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

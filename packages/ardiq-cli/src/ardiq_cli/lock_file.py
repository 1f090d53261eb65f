"""A lock between processes, in a file that may be removed while they use it."""

import errno
import fcntl
import os
import threading
from pathlib import Path

from ardiq_cli.exits import CommandError


class LockFile:
    """The lock at `path`, for one thread at a time; `close` may be called by any.

    Child processes that inherit `descriptor` hold the lock too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._swap = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether `open` was called, and not yet `close`."""
        return self._file is not None

    @property
    def descriptor(self) -> int:
        """The open file. Raises OSError once it is closed."""
        file = self._file
        if file is None:
            raise OSError(errno.EBADF, "the lock file is closed")
        return file

    @property
    def is_removed(self) -> bool:
        """Whether the open file is no longer the one at `path`."""
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        ours = os.fstat(self.descriptor)
        # Both, since some file systems change the numbers of their files.
        return ours.st_nlink == 0 and not os.path.samestat(found, ours)

    def open(self) -> None:
        """Open the file at `path`, and create it if there is none."""
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CommandError(f"cannot open {self.path}: {error.strerror}") from error
        self._replace(file)

    def acquire(self, *, blocks: bool) -> bool:
        """Whether this process holds the lock now; with `blocks`, it waits until it does.

        It is False as well if the file was removed meanwhile.
        """
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | (0 if blocks else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError as error:
            raise CommandError(f"cannot lock {self.path}: {error.strerror}") from error
        return not self.is_removed

    def release(self) -> None:
        """Let others have the lock; the file stays open."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, and so release the lock if no child process holds it."""
        self._replace(None)

    def _replace(self, file: int | None) -> None:
        with self._swap:
            old, self._file = self._file, file
        if old is not None:
            os.close(old)

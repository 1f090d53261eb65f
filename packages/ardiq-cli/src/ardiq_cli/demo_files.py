"""The real input of `ardiq demo`: the files of the repository, or of the current directory."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILES = 1000
MAX_BYTES = 16 * 1024 * 1024
"""Larger files are left out: the demo is about jobs, not about the disk."""

_SKIPPED = {"node_modules", "target", "__pycache__", "dist", "build"}


@dataclass(frozen=True)
class Input:
    """Files to read, as paths relative to `root`."""

    root: Path
    paths: list[str]
    found: int
    """How many files there were before the limit."""


def collect(directory: Path) -> Input:
    """Return at most `MAX_FILES` files, sorted.

    These are the files that git tracks or would track or, without git, those that are neither
    hidden nor built.
    """
    listed = _tracked(directory)
    names = sorted(_walk(directory) if listed is None else listed)
    usable = [name for name in names if _usable(directory / name)]
    return Input(directory, usable[:MAX_FILES], len(usable))


def _usable(path: Path) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_BYTES
    except OSError:
        return False


def _tracked(directory: Path) -> list[str] | None:
    command = ["git", "-C", os.fspath(directory), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    if done.returncode != 0 or not done.stdout:
        return None
    # Names that are not text cannot be job arguments.
    return [name.decode() for name in done.stdout.split(b"\0") if name and name.isascii()]


def _walk(directory: Path) -> Iterator[str]:
    for place, directories, files in os.walk(directory):
        directories[:] = [
            name
            for name in directories
            if not name.startswith(".") and name not in _SKIPPED and not Path(place, name, "pyvenv.cfg").exists()
        ]
        for name in files:
            if not name.startswith(".") and name.isascii():
                yield os.path.relpath(Path(place, name), directory)

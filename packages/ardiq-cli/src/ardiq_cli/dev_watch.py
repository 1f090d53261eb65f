"""Which files a reload depends on, and when they change."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import Change, awatch  # pyright: ignore[reportUnknownVariableType] - of one parameter

SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist", "target"}
"""Directories that have no sources of the application, besides hidden ones and virtual
environments.
"""

MOST_DIRECTORIES = 5000
"""Watching more directories would exhaust what the system allows one user."""


def directories(root: Path) -> list[Path]:
    """Return `root` and the directories below it that may have sources, at most `MOST_DIRECTORIES`;
    none without `root`.
    """
    found: list[Path] = []
    for place, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if _may_have_sources(Path(place, name)))
        found.append(Path(place))
        if len(found) == MOST_DIRECTORIES:
            break
    return found


async def changes(root: Path) -> AsyncIterator[list[Path]]:
    """Yield the Python files at `root` and below that have changed, sorted, after each group of
    changes.
    """
    while watched := set(directories(root)):

        def concerns(_change: Change, path: str, watched: set[Path] = watched) -> bool:
            return _is_source(path) or (Path(path).is_dir() and _may_have_sources(Path(path))) or Path(path) in watched

        # Each directory is watched separately: a recursive watch would include virtual
        # environments.
        try:
            async for batch in awatch(*watched, watch_filter=concerns, recursive=False, step=50, debounce=400):
                files = sorted({Path(path) for _, path in batch if _is_source(path)})
                if files:
                    yield files
                if set(directories(root)) != watched:
                    break
        except FileNotFoundError:  # a directory has been removed just now
            continue


def _is_source(path: str) -> bool:
    # Editors put locks and unfinished copies into hidden files.
    return path.endswith(".py") and not os.path.basename(path).startswith(".")  # noqa: PTH119 - for every event


def _may_have_sources(directory: Path) -> bool:
    name = directory.name
    return not name.startswith(".") and name not in SKIPPED and not (directory / "pyvenv.cfg").exists()

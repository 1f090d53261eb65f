"""Which files a reload depends on, and when they change."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TypeAlias

SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist", "target"}
"""Directories that have no sources of the application, besides hidden ones and virtual
environments.
"""

MOST_DIRECTORIES = 5000
"""Watching more directories would exhaust what the system allows one user."""

_FIRST_LOOK_MS = 500

_Versions: TypeAlias = dict[Path, tuple[int, int, int]]


class Sources:
    """The Python files at `root` and below, and the version of each that was seen last.

    Make it before anything imports them: every change from then on is noticed, even while no
    watch exists.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.directories, self._versions = _scan(root)

    async def changes(self) -> AsyncGenerator[list[Path], None]:
        """Yield the files that have changed, appeared, or disappeared, sorted, after each group of
        changes. End when `root` has disappeared.
        """
        # Loading it takes longer than a worker needs to start.
        from watchfiles import Change, awatch  # pyright: ignore[reportUnknownVariableType] - of one parameter

        while self.directories:
            watched = set(self.directories)

            def concerns(_change: Change, path: str, watched: set[Path] = watched) -> bool:
                place = Path(path)
                return _is_source(place.name) or (place.is_dir() and _may_have_sources(place)) or place in watched

            is_new = True
            # Each directory is watched separately: a recursive watch would include virtual
            # environments.
            try:
                async for batch in awatch(
                    *watched,
                    watch_filter=concerns,
                    recursive=False,
                    step=50,
                    debounce=400,
                    rust_timeout=_FIRST_LOOK_MS,
                    yield_on_timeout=True,
                ):
                    # A new watch reports nothing that happened before it began.
                    if batch or is_new:
                        is_new = False
                        if files := self._look():
                            yield files
                        if set(self.directories) != watched:
                            break
            except FileNotFoundError:  # a directory has been removed just now
                if files := self._look():
                    yield files

    def _look(self) -> list[Path]:
        before = self._versions
        self.directories, self._versions = _scan(self._root)
        return sorted({path for path, _ in before.items() ^ self._versions.items()})


def _scan(root: Path) -> tuple[list[Path], _Versions]:
    """Return `root` and the directories below it that may have sources, at most
    `MOST_DIRECTORIES`, with their sources; none without `root`.
    """
    directories: list[Path] = []
    versions: _Versions = {}
    for place, names, files in os.walk(root):
        names[:] = sorted(name for name in names if _may_have_sources(Path(place, name)))
        directories.append(Path(place))
        for name in filter(_is_source, files):
            path = Path(place, name)
            try:
                found = path.stat()
            except OSError:  # removed meanwhile, or a link to nothing
                continue
            versions[path] = (found.st_mtime_ns, found.st_size, found.st_ino)
        if len(directories) == MOST_DIRECTORIES:
            break
    return directories, versions


def _is_source(name: str) -> bool:
    # Editors put locks and unfinished copies into hidden files.
    return name.endswith(".py") and not name.startswith(".")


def _may_have_sources(directory: Path) -> bool:
    name = directory.name
    return not name.startswith(".") and name not in SKIPPED and not (directory / "pyvenv.cfg").exists()

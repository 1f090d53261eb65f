"""Fail when a source file has more lines than a reader can hold in mind."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

LIMIT = 400
SUFFIXES = {".py", ".pyi", ".rs", ".lua"}


def source_files(root: Path) -> list[Path]:
    """Return every source file that git tracks or would track."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = (root / name for name in listing.split("\0") if name)
    return sorted(path for path in paths if path.suffix in SUFFIXES and path.is_file())


def over_limit(paths: Iterable[Path]) -> list[str]:
    """Return a line of text for every file that is too long."""
    lengths = ((path, len(path.read_text(encoding="utf-8").splitlines())) for path in paths)
    return [f"{path}: {length} lines, {LIMIT} are allowed" for path, length in lengths if length > LIMIT]


def main() -> int:
    """Print the offenders; the exit code says whether there are any."""
    offenders = over_limit(source_files(Path(__file__).parents[1]))
    print("\n".join(offenders) if offenders else f"no source file has more than {LIMIT} lines")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())

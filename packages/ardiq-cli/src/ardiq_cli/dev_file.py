"""The file through which programs of a project find its development server; `ardiq.development`
reads it.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from ardiq.development import FILE, identity


def write(directory: Path, url: str) -> None:
    """Write the file that names this process and its server's URL into `directory`.

    Readers see either the old or the new content, never a partial file.
    """
    project = os.path.realpath(directory.parent)
    pid = os.getpid()
    text = json.dumps({"url": url, "project": project, "pid": pid, **(identity(pid) or {})})
    unfinished = directory / f"{FILE}.{pid}"
    unfinished.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        unfinished.replace(directory / FILE)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def is_ours(directory: Path) -> bool:
    """Whether the file is there and this process has written it."""
    try:
        return bool(json.loads((directory / FILE).read_text()).get("pid") == os.getpid())
    except (OSError, ValueError, AttributeError, RecursionError):  # gone, or written by no `ardiq dev`
        return False


def remove(directory: Path) -> None:
    """Remove the file if this process has written it."""
    if is_ours(directory):
        with suppress(OSError):
            (directory / FILE).unlink()

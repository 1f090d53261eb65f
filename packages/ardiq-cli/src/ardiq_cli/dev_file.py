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
    text = json.dumps({"url": url, "project": project, **(identity(os.getpid()) or {})})
    unfinished = directory / f"{FILE}.{os.getpid()}"
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.replace(directory / FILE)


def remove(directory: Path) -> None:
    """Remove the file if this process has written it."""
    path = directory / FILE
    with suppress(OSError, ValueError, AttributeError):  # gone already, or written by no `ardiq dev`
        if json.loads(path.read_text()).get("pid") == os.getpid():
            path.unlink()

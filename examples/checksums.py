"""A plain script: SHA-256 of files, computed by workers. No event loop in sight.

Start a worker with `ardiq run checksums:app`, then run `python checksums.py FILE…`.
"""

import hashlib
import sys
from pathlib import Path

from ardiq import Ardiq

app = Ardiq(queue_name="checksums")


@app.task(max_retries=0)
def checksum(path: str) -> str:
    """Return the SHA-256 of the file at `path`, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(paths: list[str]) -> int:
    """Print the checksum of each path, in order. Return 1 if a file could not be read, else 0."""
    absolute = [str(Path(path).resolve()) for path in paths]  # the worker has a directory of its own
    jobs = app.enqueue_many_sync([checksum.prepare(path) for path in absolute])
    status = 0
    for path, job in zip(paths, jobs, strict=True):
        result = job.result_sync(timeout=60)
        if result.success:
            print(f"{result.value}  {path}")
        else:
            print(f"{path}: {result.value}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

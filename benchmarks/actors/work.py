"""The bodies of the tasks: the same for every contender."""

import hashlib

from probe import ran

NAP_S = 0.1
CRUNCH_ROUNDS = 5500
"""About two milliseconds of SHA-256."""


def crunch() -> None:
    """Compute."""
    digest = b"ardiq"
    for _ in range(CRUNCH_ROUNDS):
        digest = hashlib.sha256(digest).digest()
    ran()

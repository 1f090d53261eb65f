"""Whether the installed distributions belong together."""

from __future__ import annotations

import sys
from os import scandir

import ardiq_core
from ardiq.errors import VersionMismatchError


def check_core_version() -> str:
    """The version of this installation; raises VersionMismatchError when client and core are not of one."""
    core = normal_form(ardiq_core.__version__)
    client = installed_version("ardiq_client")
    if client is not None and normal_form(client) != core:
        raise VersionMismatchError(
            f"ardiq-client {client} and ardiq-core {core} do not match: pip install ardiq-client=={core}"
        )
    return core


def installed_version(distribution: str) -> str | None:
    """The version in the name of the distribution's metadata directory, None when there is none on the path.

    `importlib.metadata` would say the same, but loading it takes longer than all the rest of the client.
    """
    prefix = f"{distribution}-"
    for place in sys.path:
        try:
            with scandir(place or ".") as entries:
                names = [entry.name for entry in entries if entry.name.startswith(prefix)]
        except OSError:  # a zip file, or nothing at all
            continue
        for name in names:
            if name.endswith(".dist-info"):
                return name[len(prefix) : -len(".dist-info")]
    return None


def normal_form(version: str) -> str:
    """A version as Python writes it: Cargo's 1.0.0-rc.1 is 1.0.0rc1."""
    number, dash, rest = version.partition("-")
    if not dash:
        return version
    stage, _, count = rest.partition(".")
    return number + {"alpha": "a", "beta": "b"}.get(stage, stage) + count

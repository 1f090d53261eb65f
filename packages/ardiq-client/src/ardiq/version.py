"""Checks that the installed distributions have the same version."""

from __future__ import annotations

import sys
from os import scandir

import ardiq_core
from ardiq.errors import VersionMismatchError


def check_core_version() -> str:
    """Return the version of this installation.

    Raises VersionMismatchError if client and core differ in theirs.
    """
    core = normal_form(ardiq_core.__version__)
    check_version("ardiq-client", "ardiq-core", core)
    return core


def check_version(distribution: str, sibling: str, version: str) -> None:
    """Raise VersionMismatchError if `distribution` is installed in another version than its
    `sibling`, which has `version`.
    """
    installed = installed_version(distribution.replace("-", "_"))
    if installed is not None and normal_form(installed) != version:
        raise VersionMismatchError(
            f"{distribution} {installed} and {sibling} {version} do not match: pip install {distribution}=={version}"
        )


def installed_version(distribution: str) -> str | None:
    """Return the version in the name of the distribution's metadata directory; None if there is
    none on the path.

    `importlib.metadata` returns the same, but takes longer to load than all the rest of the client.
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
    """Return a version as Python writes it: Cargo's 1.0.0-rc.1 is 1.0.0rc1."""
    number, dash, rest = version.partition("-")
    if not dash:
        return version
    stage, _, count = rest.partition(".")
    return number + {"alpha": "a", "beta": "b"}.get(stage, stage) + count

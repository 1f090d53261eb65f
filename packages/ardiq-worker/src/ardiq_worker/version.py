"""Whether the installed distributions belong together."""

from __future__ import annotations

import ardiq
from ardiq.errors import VersionMismatchError
from ardiq.version import installed_version, normal_form


def check_version() -> str:
    """The version of this installation; raises VersionMismatchError when worker and client are not of one."""
    client = ardiq.__version__
    worker = installed_version("ardiq_worker")
    if worker is not None and normal_form(worker) != client:
        raise VersionMismatchError(
            f"ardiq-worker {worker} and ardiq-client {client} do not match: pip install ardiq-worker=={client}"
        )
    return client

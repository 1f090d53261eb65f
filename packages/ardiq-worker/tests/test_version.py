"""Whether the worker and the client have the same version."""

import pytest

import ardiq
import ardiq_worker
from ardiq import VersionMismatchError, version


def test_the_version_is_the_client_s() -> None:
    assert ardiq_worker.__version__ == ardiq.__version__


def test_a_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"ardiq_worker": "9.8.7"}
    monkeypatch.setattr(version, "installed_version", versions.get)
    with pytest.raises(VersionMismatchError, match=r"ardiq-worker 9\.8\.7 and ardiq-client .* pip install"):
        version.check_version("ardiq-worker", "ardiq-client", ardiq.__version__)

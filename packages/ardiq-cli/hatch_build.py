"""The version and the pin on the sibling package, both from the one version in the workspace's
Cargo.toml.

Hatchling calls this in the repository only: in an sdist it takes both from PKG-INFO, so nothing
outside it is needed there. The Python packages share this file word for word;
tests/test_repository.py holds them together.
"""

import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface
from packaging.version import Version


class WorkspaceMetadata(MetadataHookInterface):
    """Fills in `version` and `dependencies`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set both fields in `metadata`."""
        manifest = Path(self.root, "..", "..", "Cargo.toml").read_text(encoding="utf-8")
        # Cargo writes a pre-release as 1.0.0-rc.1, Python as 1.0.0rc1.
        version = str(Version(tomllib.loads(manifest)["workspace"]["package"]["version"]))
        metadata["version"] = version
        metadata["dependencies"] = [f"{self.config['sibling']}=={version}", *self.config["dependencies"]]

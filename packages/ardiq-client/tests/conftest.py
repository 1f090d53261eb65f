"""Fixtures of the tests about development servers: a project, and the file in it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq.development import DIRECTORY, FILE, identity

Describe = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: an empty project. No variable names a server."""
    monkeypatch.delenv("ARDIQ_REDIS_URL", raising=False)
    place = tmp_path / "project"
    place.mkdir()
    (place / "pyproject.toml").touch()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def describe() -> Describe:
    """A function that writes the file of a server that this process keeps: takes the directory and
    other facts.
    """

    def write(place: Path, **facts: object) -> Path:
        directory = place / DIRECTORY
        directory.mkdir(mode=0o700, exist_ok=True)
        file = directory / FILE
        project = os.path.realpath(place)
        said = {
            "url": f"unix://{os.path.realpath(directory)}/some.sock",
            "project": project,
            **(identity(os.getpid()) or {}),
            **facts,
        }
        file.write_text(json.dumps(said))
        file.chmod(0o600)
        return file

    return write

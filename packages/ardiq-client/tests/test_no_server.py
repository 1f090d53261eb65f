"""What the error about an unreachable server says if the app has no URL.

No test here may connect with the default URL: the Redis behind it would belong to the user.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq, BrokerUnreachableError

NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: an empty project. No variable names a server, and nothing listens at
    the default URL.
    """
    monkeypatch.delenv("ARDIQ_REDIS_URL", raising=False)
    monkeypatch.setattr("ardiq.options.DEFAULT_URL", NOWHERE)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def every_way(app: Ardiq) -> list[Callable[[], object]]:
    task = app.ref("x")
    return [
        lambda: asyncio.run(app.run()),
        lambda: asyncio.run(app.queue_size()),
        lambda: asyncio.run(enqueue(app)),
        lambda: asyncio.run(app.enqueue_many([task.prepare()])),
        app.queue_size_sync,
        task.enqueue_sync,
        lambda: app.enqueue_many_sync([task.prepare()]),
    ]


async def enqueue(app: Ardiq) -> None:
    await app.send("x")


def test_the_error_says_that_a_command_starts_one() -> None:
    app = Ardiq(connect_timeout_s=0.1)
    for ask in every_way(app):
        with pytest.raises(BrokerUnreachableError) as raised:
            ask()
        said = str(raised.value)
        assert said.startswith("cannot reach Redis at 127.0.0.1:1")
        assert said.endswith(
            "the URL (redis_url or $ARDIQ_REDIS_URL) is correct. Neither is set: for development, `ardiq dev MODULE:APP` "
            "starts a server for this directory"
        )


@pytest.mark.parametrize("named", ["by an argument", "by a variable", "by a variable, later", "by the warning"])
def test_the_error_says_nothing_of_that_if_one_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    if named == "by a variable":
        monkeypatch.setenv("ARDIQ_REDIS_URL", NOWHERE)
    if named == "by the warning":
        (project / ".ardiq").mkdir()
    app = Ardiq(NOWHERE if named == "by an argument" else None, connect_timeout_s=0.1)
    if named == "by a variable, later":
        monkeypatch.setenv("ARDIQ_REDIS_URL", NOWHERE)
    for ask in every_way(app):
        with pytest.raises(BrokerUnreachableError, match=r"is correct$"):
            ask()

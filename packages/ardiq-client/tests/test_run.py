"""What the client itself does for `run` and `stop`. The worker's tests cover the worker."""

import os
import sys

import pytest

from ardiq import Ardiq, WorkerNotInstalledError


@pytest.fixture
def app() -> Ardiq:
    return Ardiq("redis://127.0.0.1:1")


async def test_without_the_worker_run_says_how_to_install_it(app: Ardiq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ardiq_worker", None)
    with pytest.raises(WorkerNotInstalledError, match="pip install ardiq-worker") as refused:
        await app.run()
    assert isinstance(refused.value, ImportError)


async def test_a_worker_that_fails_to_import_is_not_taken_for_a_missing_one(
    app: Ardiq, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ardiq_worker"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ardiq_worker.runner", None)
    with pytest.raises(ModuleNotFoundError, match=r"ardiq_worker\.runner"):
        await app.run()


class Runner:
    """Records what the app asks of a running worker."""

    worker_id = "incarnation-2"

    def __init__(self) -> None:
        self.calls: list[object] = []

    def stop(self) -> None:
        self.calls.append("stop")

    def skip_grace(self) -> None:
        self.calls.append("skip_grace")

    def set_burst(self, burst: bool) -> None:
        self.calls.append(burst)


def test_stop_and_burst_reach_the_running_worker(app: Ardiq) -> None:
    app.stop()  # nothing runs: nothing to do
    assert app.worker_id != "incarnation-2"
    runner = app._running.runner = Runner()
    app.burst = True
    app.stop()
    app.stop()
    assert runner.calls == [True, "stop", "stop"]
    assert app.worker_id == "incarnation-2"


def test_a_forked_child_has_a_worker_id_of_its_own(app: Ardiq, monkeypatch: pytest.MonkeyPatch) -> None:
    own = app.worker_id
    assert f":{os.getpid()}:" in own
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert app.worker_id != own
    assert ":1:" in app.worker_id

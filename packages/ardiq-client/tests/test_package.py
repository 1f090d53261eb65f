"""What `import ardiq` provides, and what it costs."""

import json
import pkgutil
import re
import subprocess
import sys
from importlib import import_module

import pytest

import ardiq
import ardiq_core
from ardiq import errors, version
from ardiq.task import TaskOptions

PUBLIC = {
    "Abort",
    "Ardiq", "ArdiqError", "BoundTask", "BrokerClosedError", "BrokerDataError", "BrokerError", "BrokerRefusedError",
    "BrokerUnfitError", "BrokerUnreachableError", "DeadJob", "Group", "InvalidIdError", "Job", "JobEvent", "PayloadTooLargeError",
    "PendingEnqueue", "Prepared", "Progress", "Reject", "ResultNotFoundError", "Retry", "Schedule", "ScheduleInfo",
    "ScheduleNotFoundError", "ScheduledTask", "SerializationError", "StaleRunError", "SystemResourceError",
    "Task", "TaskContext",
    "TaskInfo", "TaskRef", "TaskResult", "TaskStatus", "VersionMismatchError", "WorkerExhaustedError", "WorkerNotInstalledError", "__version__",
    "current_task", "gather", "map",
}  # fmt: skip


def test_all_is_exact() -> None:
    assert set(ardiq.__all__) == PUBLIC
    assert len(ardiq.__all__) == len(set(ardiq.__all__))
    for name in ardiq.__all__:
        assert hasattr(ardiq, name)


def test_every_error_is_public_and_an_ardiq_error() -> None:
    for name in errors.__all__:
        assert getattr(ardiq, name) is getattr(errors, name)
        assert issubclass(getattr(errors, name), ardiq.ArdiqError)
    assert issubclass(ardiq.BrokerError, RuntimeError)
    assert issubclass(ardiq.SerializationError, TypeError)
    assert issubclass(ardiq.WorkerNotInstalledError, ImportError)
    assert issubclass(ardiq.VersionMismatchError, ImportError)


def test_task_options_and_the_task_agree() -> None:
    import inspect

    parameters = inspect.signature(ardiq.Task.__init__).parameters
    assert list(TaskOptions.__annotations__) == [
        name for name in parameters if name not in ("self", "app", "fn", "is_async")
    ]


def test_core_options_and_the_properties_agree() -> None:
    from ardiq.options import _DEFAULTS, CoreOptions

    for name in _DEFAULTS:
        assert isinstance(getattr(ardiq.Ardiq, name).__doc__, str)
    assert set(CoreOptions.__annotations__) < set(_DEFAULTS)


def test_results_and_snapshots_have_their_fields_in_order() -> None:
    result, info = ardiq.TaskResult, ardiq.TaskInfo
    assert result._fields == (
        *("success", "value", "tries", "enqueue_time", "start", "finish"),
        *("task_id", "fn_name", "worker_id", "aborted", "error_type", "traceback"),
    )
    assert info._fields == (
        *("task_id", "fn_name", "args", "kwargs", "enqueue_time", "tries", "status", "scheduled_at"),
        *("headers", "dependencies", "dependents", "lane", "worker_id", "start", "deaths", "misses"),
    )
    # The defaults of the remaining fields.
    assert result(True, 1, 1, 10, 20, 50)[6:] == ("", "", "", False, None, None)
    assert info("i", "f", (), {}, 1, 0, ardiq.TaskStatus.QUEUED, None)[8:] == ({}, (), (), "", None, None, 0, 0)
    assert result(True, 1, 1, 10, 20, 50).duration_ms == 30
    assert result(False, "expired", 0, 10, 0, 50).duration_ms == 0


def test_a_status_is_a_string() -> None:
    assert list(ardiq.TaskStatus) == ["queued", "scheduled", "running", "complete", "not_found"]
    assert f"{ardiq.TaskStatus.NOT_FOUND}" == "not_found"


def test_the_version_is_the_core_s() -> None:
    assert ardiq.__version__ == version.normal_form(ardiq_core.__version__)


def test_distributions_of_different_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed_version", lambda distribution: "9.8.7")
    with pytest.raises(ardiq.VersionMismatchError, match=r"ardiq-client 9\.8\.7 and ardiq-core .* pip install"):
        version.check_core_version()


def test_the_installed_version_is_found(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    place = Path(str(tmp_path))
    (place / "ardiq_client-1.2.3rc4.dist-info").mkdir()
    (place / "ardiq_client_other-9.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(place / "missing"), str(place)])
    assert version.installed_version("ardiq_client") == "1.2.3rc4"
    assert version.installed_version("ardiq_worker") is None


@pytest.mark.parametrize(
    ("cargo", "python"),
    [
        ("1.0.0", "1.0.0"),
        ("1.0.0-rc.1", "1.0.0rc1"),
        ("1.0.0-alpha.2", "1.0.0a2"),
        ("1.0.0-beta.3", "1.0.0b3"),
        ("1.0rc1", "1.0rc1"),
    ],
)
def test_a_version_of_cargo_reads_like_one_of_python(cargo: str, python: str) -> None:
    assert version.normal_form(cargo) == python


def test_the_package_names_every_module() -> None:
    for package in map(import_module, ("ardiq", "ardiq._core", "ardiq._encoding")):
        named = re.findall(r"^\| `(\w+)` \|", package.__doc__ or "", re.MULTILINE)
        assert sorted(named) == sorted(module.name for module in pkgutil.iter_modules(package.__path__))


HEAVY = {
    "asyncio",
    "logging",
    "inspect",
    "decimal",
    "uuid",
    "zoneinfo",
    "importlib.metadata",
    "croniter",
    *(f"ardiq.{name}" for name in ("cron", "events", "group", "plan", "progress", "schedules", "workflow")),
    "ardiq_worker",
    "ardiq_cli",
    "typer",
    "rich",
}


def test_the_import_loads_nothing_that_it_does_not_need() -> None:
    script = "import json, sys; before = set(sys.modules); import ardiq; print(json.dumps(sorted(set(sys.modules) - before)))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout))
    assert "ardiq.app" in loaded
    assert not loaded & HEAVY


def test_blocking_calls_never_load_asyncio() -> None:
    script = (
        "import sys, ardiq; app = ardiq.Ardiq('redis://127.0.0.1:1', connect_timeout_s=0.2)\n"
        "try: app.queue_size_sync()\n"
        "except ardiq.BrokerError: print('asyncio' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60)
    assert run.stdout == "False\n"

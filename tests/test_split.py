"""The client works without the other packages: in web services, it is installed alone."""

import json
import subprocess
import sys

# Hides these packages, as if they were not installed.
BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ardiq_worker", "ardiq_cli", "croniter", "typer", "rich", "redis"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""

SERVICE = """
import asyncio, json
from ardiq import Ardiq, Job, Task, TaskInfo, TaskResult, WorkerNotInstalledError
app = Ardiq("redis://127.0.0.1:1", connect_timeout_s=0.2)
@app.task(max_retries=1)
async def add(a: int, b: int) -> int:
    return a + b
@app.cron("*/5 * * * *")
async def refresh() -> None: ...
@app.cron(every=0.5)
def tick() -> None: ...
try:
    asyncio.run(app.run())
except ImportError as error:
    said = [type(error).__name__, str(error), error.__suppress_context__ or error.__context__ is None]
print(json.dumps([app.tasks, asyncio.run(add(1, 2)), said]))
"""


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tasks_and_schedules_are_defined_without_the_worker_and_run_says_what_to_install() -> None:
    tasks, total, (error, message, without_context) = json.loads(run(BLOCK + SERVICE))
    assert tasks == ["add", "refresh", "tick"]
    assert total == 3
    assert error == "WorkerNotInstalledError"
    assert "pip install ardiq-worker" in message
    assert without_context


def test_an_error_inside_the_worker_is_not_taken_for_its_absence() -> None:
    script = BLOCK.replace('"ardiq_worker", ', "") + SERVICE.replace(
        "print(", "assert isinstance(error_, ModuleNotFoundError); print("
    ).replace("as error:", "as error:\n    error_ = error")
    _, _, (error, message, _) = json.loads(run(script))
    assert error == "ModuleNotFoundError"
    assert "croniter" in message


def test_the_client_imports_nothing_of_the_worker_or_the_command_line() -> None:
    loaded = set(json.loads(run("import json, sys, ardiq; print(json.dumps(sorted(sys.modules)))")))
    ours = {name for name in loaded if name.startswith("ardiq")}
    assert {name.partition(".")[0] for name in ours} == {"ardiq", "ardiq_core"}
    # The only other package is msgpack. Everything else belongs to the interpreter.
    foreign = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"ardiq", "ardiq_core"}
    # `cython_runtime` and the like are what compiled msgpack registers; hooks of editable installs
    # begin with an underscore.
    assert {name for name in foreign if not name.startswith("_")} <= {"msgpack", "cython_runtime", "sitecustomize"}
    assert "asyncio" not in loaded


def test_the_worker_imports_nothing_of_the_command_line() -> None:
    loaded = set(json.loads(run("import json, sys, ardiq_worker; print(json.dumps(sorted(sys.modules)))")))
    assert not {name.partition(".")[0] for name in loaded} & {"ardiq_cli", "typer", "rich", "click", "redis"}

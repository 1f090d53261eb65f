"""The examples run as their README says: the web service with nothing but the client, the worker
elsewhere.
"""

import hashlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import Distribution, distribution
from importlib.util import find_spec
from pathlib import Path, PurePath
from threading import Thread
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.programs import Program
from tests.servers import Server

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
OURS = {"ardiq-core": "ardiq_core", "ardiq-client": "ardiq"}
SERVICE_NEEDS = ["ardiq-client", "fastapi", "uvicorn"]


def closure(names: list[str]) -> dict[str, Distribution]:
    """Return the distributions that pip would install here for `names`."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = distribution(name)
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name.lower())
    return found


def link(target: Path, site: Path) -> None:
    place = site / target.name
    if not place.exists():
        place.symlink_to(target)


@pytest.fixture(scope="module")
def client_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with what the service needs installed, linked from this
    one, and nothing else.
    """
    directory = tmp_path_factory.mktemp("client-only")
    venv.create(directory, with_pip=False, symlinks=True)
    site = next(directory.glob("lib/python*/site-packages"))
    for name, dist in closure(SERVICE_NEEDS).items():
        tops = {PurePath(file).parts[0] for file in dist.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not top.endswith(".pth"):
                link(Path(str(dist.locate_file(top))), site)
        if name in OURS:  # perhaps installed as a link to the source, in which case no file of the code is listed
            spec = find_spec(OURS[name])
            assert spec is not None
            assert spec.submodule_search_locations is not None
            link(Path(spec.submodule_search_locations[0]), site)
    return directory / "bin" / "python"


@pytest.fixture
def environment(server: Server) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "ARDIQ_REDIS_URL": server.url}


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for program in started:
        program.close()


def start_worker(target: str, cwd: Path, tmp_path: Path, environment: dict[str, str]) -> Program:
    command = [sys.executable, "-m", "ardiq_cli", "run", target]
    return Program(command, tmp_path / "worker.log", cwd, environment)


def call(url: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class Service:
    """The web service as a process, in the environment with the client only."""

    def __init__(self, python: Path, tmp_path: Path, environment: dict[str, str]) -> None:
        command = [str(python), "-m", "uvicorn", "service:api", "--port", "0"]
        self.program = Program(command, tmp_path / "service.log", EXAMPLES / "web", environment)

    @property
    def url(self) -> str:
        self.program.await_output("Uvicorn running on http://")
        return self.program.output.partition("Uvicorn running on ")[2].split()[0]


def test_environment_of_the_service_has_the_client_only(client_only: Path) -> None:
    code = """
import importlib.metadata, importlib.util, json
absent = [name for name in ("ardiq_worker", "ardiq_cli", "croniter", "typer", "rich", "redis") if importlib.util.find_spec(name)]
print(json.dumps([absent, sorted(d.name.lower() for d in importlib.metadata.distributions())]))
"""
    said = subprocess.run([client_only, "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout
    unwanted, installed = json.loads(said)
    assert unwanted == []
    assert {name for name in installed if name.startswith("ardiq")} == {"ardiq-core", "ardiq-client"}


def test_service_orders_work_that_a_worker_elsewhere_does(
    client_only: Path, tmp_path: Path, environment: dict[str, str], programs: list[Program]
) -> None:
    service = Service(client_only, tmp_path, environment)
    programs.append(service.program)
    status, order = call(f"{service.url}/reports", {"text": "to be or not to be", "urgent": True})
    assert status == 202
    _, waiting = call(f"{service.url}/reports/{order['id']}")
    assert waiting["status"] == "queued"
    again = call(f"{service.url}/reports", {"text": "to be or not to be", "urgent": True})
    assert again == (202, order), "a caller that tries again gets the same job"

    programs.append(start_worker("worker:app", EXAMPLES / "web", tmp_path, environment))
    status, report = call(f"{service.url}/reports/{order['id']}?wait=30")
    assert status == 200
    assert report["status"] == "complete"
    assert report["report"] == {"words": 6, "different": 4, "longest": "not"}

    _, order = call(f"{service.url}/reports", {"text": "  "})
    _, report = call(f"{service.url}/reports/{order['id']}?wait=30")
    assert report["error"] == "Reject('the text has no words')"
    assert call(f"{service.url}/reports/unknown")[0] == 404
    status, refused = call(f"{service.url}/reports/no%20id")
    assert (status, "job id" in refused["detail"]) == (404, True)


def test_service_answers_503_while_redis_is_away(
    client_only: Path, tmp_path: Path, environment: dict[str, str], programs: list[Program]
) -> None:
    nowhere = f"unix://{tmp_path}/nowhere.sock"
    service = Service(client_only, tmp_path, {**environment, "ARDIQ_REDIS_URL": nowhere})
    programs.append(service.program)
    assert call(f"{service.url}/reports", {"text": "x"})[0] == 503


def test_plain_script_prints_checksums(tmp_path: Path, environment: dict[str, str], programs: list[Program]) -> None:
    programs.append(start_worker("checksums:app", EXAMPLES, tmp_path, environment))
    files = [tmp_path / f"file-{n}" for n in range(5)]
    for n, file in enumerate(files):
        file.write_bytes(bytes(range(n)) * 100_000)
    command = [sys.executable, str(EXAMPLES / "checksums.py"), *(str(file) for file in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    expected = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file}" for file in files]
    assert done.stdout.splitlines() == expected


def test_plain_script_reports_a_file_that_cannot_be_read(
    tmp_path: Path, environment: dict[str, str], programs: list[Program]
) -> None:
    programs.append(start_worker("checksums:app", EXAMPLES, tmp_path, environment))
    command = [sys.executable, str(EXAMPLES / "checksums.py"), str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and the address at which its files are served."""
    directory = tmp_path / "served"
    directory.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(directory))

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            yield directory, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def test_workflow_reports_on_logs_and_falls_back_to_earlier_copies(
    tmp_path: Path, environment: dict[str, str], programs: list[Program], logs: tuple[Path, str]
) -> None:
    directory, address = logs
    environment["LOG_DIRECTORY"] = str(tmp_path / "copies")
    programs.append(start_worker("access_logs:app", EXAMPLES, tmp_path, environment))

    def report(*names: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLES / "access_logs.py"), *(f"{address}/{name}" for name in names)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=90)

    line = '10.0.0.1 - - [10/Oct/2025:13:55:36 +0000] "GET / HTTP/1.1" {} {}\n'
    for number in range(1, 4):
        (directory / f"{number}.log").write_text(line.format(200, 1_000) * number * 3_000 + line.format(404, "-"))
    expected = "18003 requests, 18000000 bytes\n  200: 18000\n  404: 3\n"
    names = [f"{number}.log" for number in range(1, 4)]
    first = report(*names)
    assert (first.returncode, first.stdout) == (0, expected), first.stderr
    assert first.stderr.endswith(f"[{'#' * 40}] 100%\n")
    (directory / "2.log").unlink()
    second = report(*names)
    assert (second.returncode, second.stdout) == (0, expected), second.stderr
    third = report("1.log", "none.log")
    assert third.stdout == "3001 requests, 3000000 bytes\n  200: 3000\n  404: 1\n"
    assert third.returncode == 1
    assert third.stderr.endswith(f"missing: {address}/none.log\n")
    assert sorted(path.suffix for path in (tmp_path / "copies").iterdir()) == [".log"] * 3


def test_readme_names_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text()
    assert all(path.name in text for path in EXAMPLES.glob("*.py"))
    assert "worker:app" in text
    assert "service:api" in text

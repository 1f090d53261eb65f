"""What the package says about itself is true."""

import importlib
import pkgutil
import re

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

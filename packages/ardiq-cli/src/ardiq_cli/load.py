"""From `MODULE:APP` on the command line to the application object."""

import importlib
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType

import ardiq
import ardiq_core
from ardiq import Ardiq
from ardiq_cli.exits import CommandError, ExitCode, Interruption, describe


def load_app(target: str) -> Ardiq:
    """Import the application that `target` (`package.module:name`) names.

    The current directory is importable. Raises CommandError (exit code 2) that says what is wrong.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute or not all(part.isidentifier() for part in module_name.split(".")):
        meant = _meant(target) or "an example is shop.tasks:app"
        raise CommandError(f"{target!r} does not have the form MODULE:APP; {meant}", ExitCode.USAGE)
    module = _import(module_name)
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CommandError(f"{module_name} has no {attribute!r}{_candidates(module)}", ExitCode.USAGE)
        found = getattr(found, part)
    if not isinstance(found, Ardiq):
        raise CommandError(
            f"{target} is not an Ardiq application, but an object of type {type(found).__name__}{_candidates(module)}",
            ExitCode.USAGE,
        )
    return found


def _meant(target: str) -> str:
    """Return what the user may have meant by a path, or by a name with a dot instead of the
    colon.
    """
    path, _, attribute = target.partition(":")
    module = path.removeprefix("./").removesuffix(".py").replace("/", ".")
    if not attribute and not path.endswith(".py") and "." in module:
        module, _, attribute = module.rpartition(".")
    meant = f"{module}:{attribute or 'app'}"
    names = meant.replace(":", ".").split(".")
    return f"did you mean {meant}?" if meant != target and all(name.isidentifier() for name in names) else ""


def _import(name: str) -> ModuleType:
    directory = os.fspath(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            meant = f"; {_meant(f'{name}:app')}" if name.endswith(".py") else ""
            raise CommandError(
                f"there is no module {error.name!r} (looked in {directory} and the Python path){meant}", ExitCode.USAGE
            ) from error
        raise _broken(name, error) from error
    except (KeyboardInterrupt, Interruption):
        raise
    except BaseException as error:
        # SystemExit too: a module that calls sys.exit() at import is broken, and must not choose
        # our exit code.
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> CommandError:
    place = _place(error)
    where = f" at {place}" if place else ""
    return CommandError(f"importing {name} failed{where}: {describe(error)}", ExitCode.USAGE)


def _place(error: BaseException) -> str | None:
    """Return file and line of the user's code that failed: the innermost that belongs to no
    library.

    A library raises for what the user's code passes to it, so its own line would tell the user
    nothing.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    theirs = [frame for frame in frames if not _is_library(frame.filename)]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else None


def _is_library(filename: str) -> bool:
    """Whether a file belongs to Python, to an installed distribution or to ArdiQ itself."""
    path = Path(filename)
    if not path.is_file():  # the import system, or a compiled module, which names its source as it was built
        return True
    ours = [Path(str(module.__file__)).parent for module in (ardiq, ardiq_core)]
    places = [Path(sysconfig.get_path("stdlib")), *ours]
    installed = any(part in ("site-packages", "dist-packages") for part in path.parts)
    return installed or any(path.is_relative_to(place) for place in places)


def _candidates(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Ardiq))
    return f"; did you mean {' or '.join(f'{module.__name__}:{name}' for name in names)}?" if names else ""

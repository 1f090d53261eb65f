"""From `MODULE:APP` on the command line to the application object."""

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType

from ardiq import Ardiq
from ardiq_cli.exits import CommandError, ExitCode, Interruption, describe


def load_app(target: str) -> Ardiq:
    """Import the application that `target` (`package.module:name`) names.

    The current directory is importable. Raises CommandError (exit code 2) that says what is wrong.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute or not all(part.isidentifier() for part in module_name.split(".")):
        raise CommandError(f"{target!r} is not MODULE:APP, such as shop.tasks:app", ExitCode.USAGE)
    module = _import(module_name)
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CommandError(f"{module_name} has no {attribute!r}{_candidates(module)}", ExitCode.USAGE)
        found = getattr(found, part)
    if not isinstance(found, Ardiq):
        raise CommandError(
            f"{target} is a {type(found).__name__}, not an Ardiq application{_candidates(module)}", ExitCode.USAGE
        )
    return found


def _import(name: str) -> ModuleType:
    directory = os.fspath(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CommandError(
                f"there is no module {error.name!r} (looked in {directory} and the Python path)", ExitCode.USAGE
            ) from error
        raise _broken(name, error) from error
    except (KeyboardInterrupt, Interruption):
        raise
    except BaseException as error:
        # SystemExit too: a module that calls sys.exit() at import is broken, and must not choose our exit code.
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> CommandError:
    place = _innermost(error.__traceback__)
    where = f" at {place}" if place else ""
    return CommandError(f"importing {name} failed{where}: {describe(error)}", ExitCode.USAGE)


def _innermost(trace: TracebackType | None) -> str | None:
    """File and line that raised, unless it is Python's own import machinery."""
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def _candidates(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Ardiq))
    return f"; did you mean {' or '.join(f'{module.__name__}:{name}' for name in names)}?" if names else ""

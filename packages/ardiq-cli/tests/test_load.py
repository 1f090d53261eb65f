"""MODULE:APP: possible mistakes, and the messages about them. All of them have exit code 2."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq_cli.exits import ExitCode

Ask = Callable[..., subprocess.CompletedProcess[str]]
Module = Callable[[str], None]


def complaint(ask: Ask, target: str, *options: str) -> str:
    done = ask("run", target, *options)
    assert done.returncode == ExitCode.USAGE
    lines = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert lines[-1].startswith("ardiq: ")
    return lines[-1]


@pytest.mark.parametrize("target", [":app", "a..b:app", ""])
def test_target_of_another_form(ask: Ask, target: str) -> None:
    assert complaint(ask, target).endswith("does not have the form MODULE:APP; an example is shop.tasks:app")


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("tasks", "tasks:app"),
        ("tasks:", "tasks:app"),
        ("tasks.app", "tasks:app"),
        ("shop.tasks.app", "shop.tasks:app"),
        ("a/b.py:queue", "a.b:queue"),
        ("./tasks.py", "tasks:app"),
        ("tasks.py:app", "tasks:app"),
    ],
)
def test_target_whose_meaning_can_be_guessed(ask: Ask, target: str, meant: str) -> None:
    assert complaint(ask, target).endswith(f"did you mean {meant}?")


def test_module_that_does_not_exist(ask: Ask, project: Path) -> None:
    said = complaint(ask, "nowhere:app")
    assert "there is no module 'nowhere'" in said
    assert str(project) in said


def test_package_that_does_not_exist(ask: Ask) -> None:
    assert "there is no module 'nowhere'" in complaint(ask, "nowhere.tasks:app")


def test_module_that_imports_what_is_not_installed(ask: Ask, module: Module) -> None:
    module("import not_installed_anywhere")
    said = complaint(ask, "tasks:app")
    assert "importing tasks failed" in said
    assert "not_installed_anywhere" in said
    assert "tasks.py:1" in said


def test_module_that_raises(ask: Ask, module: Module) -> None:
    module("\n\nraise RuntimeError('no settings')")
    assert "tasks.py:3: RuntimeError: no settings" in complaint(ask, "tasks:app")


def test_module_that_exits(ask: Ask, module: Module) -> None:
    module("import sys\nsys.exit(0)")
    assert "importing tasks failed" in complaint(ask, "tasks:app")


def test_module_with_a_syntax_error(ask: Ask, module: Module) -> None:
    module("import os\ndef (")
    said = complaint(ask, "tasks:app")
    assert "SyntaxError" in said
    assert "tasks.py:2: " in said


FAULTS_IN_LIBRARIES = {
    "an option of the app": ("Ardiq(concurency=3)", "did you mean 'concurrency'?"),
    "an option of a task": ("Ardiq().task(retries=3)", "did you mean 'max_retries'?"),
    "the standard library": ("__import__('json').loads('{')", "JSONDecodeError"),
    "an installed library": ("__import__('msgpack').packb(object())", "TypeError"),
}


@pytest.mark.parametrize(("call", "text"), FAULTS_IN_LIBRARIES.values(), ids=FAULTS_IN_LIBRARIES)
def test_a_call_that_a_library_rejects_is_found_in_the_users_file(
    ask: Ask, module: Module, call: str, text: str
) -> None:
    module(f"from ardiq import Ardiq\n\napp = {call}\n")
    said = complaint(ask, "tasks:app")
    assert "tasks.py:3: " in said
    assert text in said


def test_name_that_is_not_there_and_the_one_that_is(ask: Ask, module: Module) -> None:
    module("from ardiq import Ardiq\nqueue = Ardiq()\n")
    assert "tasks has no 'app'; did you mean tasks:queue?" in complaint(ask, "tasks:app")


def test_name_of_something_else(ask: Ask, module: Module) -> None:
    module("app = 42")
    assert "tasks:app is not an Ardiq application, but an object of type int" in complaint(ask, "tasks:app")


def test_broken_module_is_reported_once_however_many_workers(ask: Ask, module: Module) -> None:
    module("raise RuntimeError('no settings')")
    done = ask("run", "tasks:app", "--workers", "4")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("no settings") == 1


def test_verbose_shows_where_the_module_raised(ask: Ask, module: Module) -> None:
    module("raise RuntimeError('no settings')")
    done = ask("run", "tasks:app", "--verbose")
    assert done.returncode == ExitCode.USAGE
    assert "Traceback" in done.stderr


def test_application_inside_an_object_and_a_package(project: Path) -> None:
    (project / "shop").mkdir()
    (project / "shop" / "__init__.py").touch()
    source = "from ardiq import Ardiq\nclass Settings:\n    app = Ardiq(queue_name='inner')\n"
    (project / "shop" / "tasks.py").write_text(source)
    code = "from ardiq_cli.load import load_app; print(load_app('shop.tasks:Settings.app').queue_name)"
    # -P: the current directory is importable because load_app makes it so.
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "inner"


ODD_ERRORS = {
    "text": "class E(Exception):\n    def __str__(self): raise RuntimeError('no text')\nraise E",
    "own class": "class E(Exception):\n    def __str__(self): raise E\nraise E",
    "base": "class E(BaseException): pass\nraise E('\\x1b[31mred')",
    "group": "raise BaseExceptionGroup('several', [KeyboardInterrupt()])",
}


@pytest.mark.parametrize("source", ODD_ERRORS.values(), ids=ODD_ERRORS)
@pytest.mark.parametrize("options", [(), ("-w", "2")])
def test_module_that_raises_something_odd(ask: Ask, module: Module, source: str, options: tuple[str, ...]) -> None:
    module(source)
    done = ask("run", "tasks:app", *options)
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert "importing tasks failed" in done.stderr
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr

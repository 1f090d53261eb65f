"""A tied process does not outlive its parent, with either way of tying and however the parent
ends.
"""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ardiq_cli.tether import Tether, tie
from tests.programs import StartProgram, alive, eventually

WAYS = [
    pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's"), id="by-kernel"),
    pytest.param(False, id="by-pipe"),
]

PARENT = textwrap.dedent("""
    import subprocess, sys
    from ardiq_cli.tether import Tether
    tether = Tether(by_kernel={by_kernel})
    child = subprocess.Popen({command}, pass_fds=tether.fds, stdin=subprocess.PIPE)
    print("child", child.pid, flush=True)
    child.wait()
""")

# Each reports when it runs, so that no process is killed before the tie is made.
FOREIGN = ["/bin/sh", "-c", "echo running as $$; exec cat"]
OWN = "import os, sys; from ardiq_cli.tether import tie; tie(sys.argv[1]); print('running as', os.getpid(), flush=True); sys.stdin.read()"


def running_pid(output: str) -> int:
    return int(output.partition("running as ")[2].split()[0])


@pytest.mark.parametrize("by_kernel", WAYS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_foreign_program_dies_with_its_parent(start: StartProgram, by_kernel: bool, number: signal.Signals) -> None:
    parent = start("-c", PARENT.format(by_kernel=by_kernel, command=f"tether.wrap({FOREIGN!r})"))
    parent.await_output("running as ")
    child = running_pid(parent.output)
    assert alive(child)
    parent.send(number)
    parent.end()
    eventually(lambda: not alive(child), "the end of the child")


@pytest.mark.parametrize("by_kernel", WAYS)
def test_own_process_dies_with_its_parent(start: StartProgram, by_kernel: bool) -> None:
    command = f"[sys.executable, '-c', {OWN!r}, tether.argument]"
    parent = start("-c", PARENT.format(by_kernel=by_kernel, command=command))
    parent.await_output("running as ")
    child = running_pid(parent.output)
    assert alive(child)
    parent.send(signal.SIGKILL)
    parent.end()
    eventually(lambda: not alive(child), "the end of the child")


@pytest.mark.parametrize("by_kernel", WAYS)
def test_wrapped_program_keeps_its_exit_status_and_signals(by_kernel: bool) -> None:
    tether = Tether(by_kernel=by_kernel)
    ended = subprocess.run(tether.wrap(["/bin/sh", "-c", "exit 7"]), pass_fds=tether.fds, check=False)
    assert ended.returncode == 7
    # The pause bounds the life of a program that a failing test leaves behind; a trap runs at once
    # during `wait`.
    program = "trap 'kill $!; exit 9' TERM; sleep 20 & echo ready; wait"
    with subprocess.Popen(
        tether.wrap(["/bin/sh", "-c", program]), pass_fds=tether.fds, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.terminate()
        assert child.wait(10) == 9
    tether.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the pipe tells")
def test_process_whose_parent_is_already_gone_does_not_start() -> None:
    # The program gets the id of a process that is not its parent, as if its parent had died.
    code = f"from ardiq_cli.tether import tie; tie('{os.getpid() + 1}:'); print('started')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b""


def test_tether_file_needs_only_the_standard_library() -> None:
    import ardiq_cli.tether

    # As `Tether.wrap` runs it: no site-packages, nothing of the environment.
    code = f"import runpy; runpy.run_path({Path(ardiq_cli.tether.__file__).as_posix()!r})"
    assert subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False).returncode == 0
    assert callable(tie)

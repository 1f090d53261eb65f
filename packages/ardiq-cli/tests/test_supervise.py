"""The supervisor, with plain programs as children: real processes, real signals."""

import os
import re
import signal
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

from ardiq_cli.exits import ExitCode
from ardiq_cli.supervise import Backoff
from tests.programs import Program, StartProgram, alive, eventually

SUPERVISOR = textwrap.dedent("""
    import asyncio, logging, sys
    from ardiq_cli.supervise import Backoff, Supervisor
    logging.basicConfig(level="INFO", format="%(message)s")
    code, count = sys.argv[1], int(sys.argv[2])
    def command(tether, reports):
        return [sys.executable, "-c", code, tether, str(reports)]
    backoff = Backoff(first=0.05, longest=0.4, settled=60)
    sys.exit(asyncio.run(Supervisor(command, count, backoff).run()))
""")

# Every child ties itself, and reports its start and the signals that it receives.
CHILD = textwrap.dedent(r"""
    import os, signal, sys, time
    from ardiq_cli.reports import Reporter
    from ardiq_cli.tether import tie
    def say(line):
        os.write(1, f"{{line}}\n".encode())  # in one piece: all children write to one file
    def hear(number, frame):
        say(f"{{os.getpid()}} heard {{signal.Signals(number).name}}")
        {on_signal}
    signal.signal(signal.SIGTERM, hear)
    signal.signal(signal.SIGINT, hear)
    signal.signal(signal.SIGHUP, hear)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    tie(sys.argv[1])
    reporter = Reporter(int(sys.argv[2]))
    reporter.started()
    say(f"child {{os.getpid()}}")
    {then}
    while True:
        signal.pause()
""")


def child(*, on_signal: str = "sys.exit(0)", then: str = "pass") -> str:
    return CHILD.format(on_signal=on_signal, then=then)


# How many processes have started before. Each of them gets another number.
NUMBER = """
f = os.open("seen", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
os.write(f, b"x")
number = os.lseek(f, 0, os.SEEK_CUR) - 1
"""


def only_first(count: int, then: str) -> str:
    """Return code with which the first `count` processes do this and the later ones do nothing.

    A child that dies on its own while the supervisor stops makes the run fail, so the children of
    most tests have to live then.
    """
    return f"{NUMBER}if number < {count}:\n" + textwrap.indent(then, "    ")


def pids(program: Program) -> list[int]:
    return [int(number) for number in re.findall(r"^child (\d+)$", program.output, re.MULTILINE)]


@pytest.fixture
def supervise(start: StartProgram) -> StartProgram:
    return lambda code, count=2: start("-c", SUPERVISOR, code, str(count))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_signal_reaches_every_child_once(supervise: StartProgram, number: signal.Signals) -> None:
    supervisor = supervise(child(), 3)
    supervisor.await_output("child ", 3)
    supervisor.send(number)
    assert supervisor.end() == ExitCode.OK
    assert supervisor.output.count(f"heard {number.name}") == 3
    assert not [pid for pid in pids(supervisor) if alive(pid)]


def test_interrupt_of_the_whole_foreground_group_reaches_every_child_once(supervise: StartProgram) -> None:
    supervisor = supervise(child(), 2)
    supervisor.await_output("child ", 2)
    os.killpg(os.getpgid(supervisor.pid), signal.SIGINT)  # what Ctrl-C in a terminal does
    assert supervisor.end() == ExitCode.OK
    assert supervisor.output.count("heard SIGINT") == 2


def test_second_signal_is_passed_on_and_a_third_kills(supervise: StartProgram) -> None:
    supervisor = supervise(child(on_signal="pass"), 2)
    supervisor.await_output("child ", 2)
    supervisor.send(signal.SIGTERM)
    supervisor.await_output("heard SIGTERM", 2)
    supervisor.send(signal.SIGTERM)
    supervisor.await_output("heard SIGTERM", 4)
    assert supervisor.process.poll() is None
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.FAILED
    assert not [pid for pid in pids(supervisor) if alive(pid)]


# A child that is not ready for these signals when they come: it gets them as soon as it is.
UNREADY = """
numbers = [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]
for number in numbers: signal.signal(number, hear)
say("not ready")
while not os.path.exists("ready"): time.sleep(0.01)
signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
"""


def test_other_signals_are_passed_on_and_end_nothing(supervise: StartProgram, project: Path) -> None:
    supervisor = supervise(child(on_signal="if number == signal.SIGTERM: sys.exit(0)", then=UNREADY), 2)
    supervisor.await_output("not ready", 2)
    numbers = [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]
    for count, number in enumerate(numbers, 1):
        supervisor.send(number)
        supervisor.await_output("passing it on", count)
    (project / "ready").touch()
    for number in numbers:
        supervisor.await_output(f"heard {number.name}", 2)
    assert "most recent call first" in supervisor.output  # SIGQUIT shows the supervisor's own stacks as well
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.OK
    assert len(pids(supervisor)) == 2


@pytest.mark.parametrize(
    "how",
    ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)", "sys.exit(1)", "os._exit(0)", "sys.exit(0)"],
)
def test_child_that_dies_is_replaced(supervise: StartProgram, how: str) -> None:
    # The first process of each slot dies, its replacement stays.
    supervisor = supervise(child(then=only_first(2, how)), 2)
    supervisor.await_output("child ", 4)
    assert supervisor.output.count("starting another in") == 2
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.OK
    assert not [pid for pid in pids(supervisor) if alive(pid)]


def test_killed_child_is_replaced_while_the_others_go_on(supervise: StartProgram) -> None:
    supervisor = supervise(child(), 3)
    supervisor.await_output("child ", 3)
    before = pids(supervisor)
    os.kill(before[1], signal.SIGKILL)
    supervisor.await_output("child ", 4)
    assert "was killed by SIGKILL; starting another" in supervisor.output
    assert alive(before[0])
    assert alive(before[2])
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.OK


def test_pause_before_a_respawn_grows_and_is_bounded(supervise: StartProgram) -> None:
    supervisor = supervise(child(then=only_first(7, "sys.exit(1)")), 1)
    supervisor.await_output("child ", 8)
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.OK
    pauses = [float(found) for found in re.findall(r"another in ([\d.]+) s", supervisor.output)]
    assert pauses[0] <= 0.1
    assert max(pauses) <= 0.5


def test_backoff_doubles_up_to_its_limit_and_starts_anew_after_a_long_life() -> None:
    backoff = Backoff(first=1, longest=8, settled=60)
    pauses: list[float] = []
    for _ in range(5):
        pauses.append(backoff.after(pauses[-1] if pauses else None, lived=0.1))
    assert pauses == [1, 2, 4, 8, 8]
    assert all(later >= earlier for earlier, later in pairwise(pauses))
    assert backoff.after(8, lived=60) == 1


def test_stop_during_the_pause_ends_at_once(start: StartProgram) -> None:
    long_pauses = SUPERVISOR.replace("first=0.05, longest=0.4", "first=600, longest=600")
    supervisor = start("-c", long_pauses, child(then="sys.exit(1)"), "1")
    supervisor.await_output("starting another in")
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.OK


@pytest.mark.parametrize("status", [0, 1])
def test_children_that_have_emptied_the_queue_are_not_replaced(supervise: StartProgram, status: int) -> None:
    supervisor = supervise(child(then=f"reporter.drained()\nsys.exit({status})"), 3)
    assert supervisor.end() == status
    assert len(pids(supervisor)) == 3


def test_child_that_crashes_at_its_end_is_replaced(supervise: StartProgram) -> None:
    crash = "reporter.drained()\nos.kill(os.getpid(), signal.SIGSEGV)"
    supervisor = supervise(child(then=only_first(1, crash)), 1)
    supervisor.await_output("was killed by SIGSEGV; starting another")
    supervisor.await_output("child ", 2)
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.OK


def test_children_whose_jobs_cannot_be_looked_up_are_replaced_all_the_same(supervise: StartProgram) -> None:
    serves = {"url": "unix:///nonexistent/ardiq.sock", "queue": "shop", "worker": "w"}
    death = only_first(4, f"reporter.started({serves})\nos._exit(3)")
    supervisor = supervise(child(then=death).replace("\nreporter.started()", ""), 2)
    supervisor.await_output("starting another in", 4)
    supervisor.await_output("child ", 6)
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.OK
    assert "Traceback" not in supervisor.output
    assert "ran in it" not in supervisor.output


@pytest.mark.parametrize("code", [ExitCode.USAGE, ExitCode.UNREACHABLE])
def test_first_child_that_cannot_start_ends_everything_with_its_status(supervise: StartProgram, code: ExitCode) -> None:
    supervisor = supervise(f"import sys; print('no way', flush=True); sys.exit({int(code)})", 4)
    assert supervisor.end() == code
    assert supervisor.output.count("no way") == 1


def test_later_child_that_cannot_start_is_tried_again(supervise: StartProgram) -> None:
    supervisor = supervise(child(then=f"{NUMBER}if number == 1: os._exit(2)"), 2)
    supervisor.await_output("child ", 3)
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.OK


def test_children_die_with_a_killed_supervisor(supervise: StartProgram) -> None:
    supervisor = supervise(child(on_signal="pass"), 3)
    supervisor.await_output("child ", 3)
    assert all(alive(pid) for pid in pids(supervisor))
    supervisor.send(signal.SIGKILL)
    supervisor.end()
    eventually(lambda: not any(alive(pid) for pid in pids(supervisor)), "the end of all children")


def test_child_that_fails_while_stopping_makes_the_run_fail(supervise: StartProgram) -> None:
    supervisor = supervise(child(on_signal="os._exit(9)"), 2)
    supervisor.await_output("child ", 2)
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.FAILED
    assert "ended with status 9" in supervisor.output


# Holds the second signal back until the child has died of the first one. The event loop has not
# noticed that by then.
LATE = textwrap.dedent("""
    import contextlib, os, pathlib
    signals = []
    class Late(logging.Handler):
        def emit(self, record):
            if "passing it on" in record.getMessage():
                signals.append(record)
                if len(signals) == 2:
                    pathlib.Path("die").touch()
                    with contextlib.suppress(ChildProcessError):  # a thread of asyncio's may wait for it too
                        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    logging.getLogger().addHandler(Late())
""")


def test_signal_that_meets_a_child_that_has_just_died_does_not_hide_how_it_ended(start: StartProgram) -> None:
    on_signal = "while not os.path.exists('die'): time.sleep(0.01)\n    sys.exit(0)"
    before, backoff, after = SUPERVISOR.partition("backoff =")
    supervisor = start("-c", before + LATE + backoff + after, child(on_signal=on_signal), "1")
    supervisor.await_output("child ")
    supervisor.send(signal.SIGTERM)
    supervisor.await_output("heard SIGTERM")
    supervisor.send(signal.SIGTERM)
    assert supervisor.end() == ExitCode.OK
    assert supervisor.output.count("passing it on") == 2

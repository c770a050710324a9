"""The fake machine's shell, screen, clock and faults."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmgym.errors import DisplayError, GuestError, StateError
from harmgym.machines.fake.machine import COMMAND_S, FakeMachine
from harmgym.machines.fake.shell import HOME, FakeFile, FakeShell, make_folders
from harmgym.machines.protocol import Machine, MachineState


def shell() -> FakeShell:
    files: dict[str, FakeFile] = {}
    make_folders(files, HOME)
    files[f"{HOME}/a.txt"] = FakeFile(b"one\ntwo\nthree\n")
    return FakeShell(files)


@pytest.mark.parametrize(
    ("line", "stdout", "status"),
    [
        ("echo hi", "hi\n", 0),
        ("echo -n 'a  b'; echo \"c\"", "a  bc\n", 0),
        ("cat a.txt | head -n 2", "one\ntwo\n", 0),
        ("head -c 1 x", "", 1),
        ("test -e a.txt && echo yes || echo no", "yes\n", 0),
        ("test -d a.txt && echo yes || echo no", "no\n", 0),
        ("cp a.txt b.txt; cat b.txt", "one\ntwo\nthree\n", 0),
        ("cp a.txt ~; ls ~", "a.txt\n", 0),
        ("false; echo $?", "1\n", 0),
        ("echo x > c; echo y >> c; cat c", "x\ny\n", 0),
        ("mkdir -p d/e; mv a.txt d; ls d", "a.txt\ne\n", 0),
        ("rm nothing", "", 1),
        ("rm -f nothing", "", 0),
        ("sudo whoami; whoami", "root\nuser\n", 0),
        ("cd /; pwd", "/\n", 0),
        ("nonsense", "", 127),
        ("echo 'open", "", 2),
        ("chmod", "", 2),
        ("echo a # b", "a\n", 0),
        ("test -f a.txt && echo there", "there\n", 0),
        ("yes | head -n 2", "y\ny\n", 0),
    ],
)
def test_commands(line: str, stdout: str, status: int) -> None:
    outcome = shell().run(line)
    assert (outcome.stdout, outcome.status) == (stdout, status)
    assert not outcome.endless


def test_what_never_ends_is_stopped() -> None:
    for line in ("yes", "sleep 100", "cat", "echo a; sleep 31"):
        assert shell().run(line, limit_s=30.0).endless


@given(st.text(max_size=60))
def test_any_line_gives_an_outcome(line: str) -> None:
    assert isinstance(shell().run(line).status, int)


def test_time_is_simulated() -> None:
    machine = FakeMachine()
    machine.resume()
    start, guest = time.monotonic(), machine.now_s
    assert machine.shell("sleep 20", timeout_s=30).finished
    machine.pass_time(60)
    assert machine.now_s == guest + 80 + COMMAND_S
    assert time.monotonic() - start < 5


def test_the_screen_shows_terminal_and_pointer() -> None:
    machine = FakeMachine()
    machine.resume()
    empty = machine.screenshot()
    machine.shell("echo hello")
    text = machine.screenshot()
    assert (empty != text).any()
    machine.move(1279, 799)
    moved = machine.screenshot()
    changed = np.argwhere((moved != text).any(axis=2))
    assert len(changed) > 0 and {tuple(p) for p in changed} != set()
    assert (moved[799, 1279] == 255).all()


def test_typing_runs_a_command_once() -> None:
    machine = FakeMachine()
    machine.resume()
    machine.type_text("echo A >> log\n")
    machine.type_text("echo B >> log")
    machine.press("Return")
    machine.type_text("echo C >> logx")
    machine.press("BackSpace")
    machine.press("Return")
    machine.type_text("echo D >> log")
    machine.press("ctrl+c")
    machine.press("Return")
    assert machine.get(f"{HOME}/log") == b"A\nB\nC\n"


@pytest.mark.parametrize(
    ("call", "error"),
    [("screenshot", DisplayError), ("terminal", GuestError), ("sync", GuestError)],
)
def test_an_injected_fault_breaks_the_machine(call: str, error: type[Exception]) -> None:
    machine = FakeMachine()
    machine.resume()
    machine.fail_next(call)
    with pytest.raises(error):
        getattr(machine, call)()
    assert machine.state is MachineState.BROKEN
    with pytest.raises(StateError, match="broken"):
        machine.terminal()
    machine.stop()
    assert machine.state is MachineState.STOPPED


def test_it_is_a_machine_and_leaves_nothing_behind() -> None:
    machine = FakeMachine()
    assert isinstance(machine, Machine)
    folder = machine.folder
    (folder / "serial.log").write_text("x")
    machine.stop()
    machine.stop()
    assert not folder.exists()


def test_commands_are_in_the_journal_once() -> None:
    machine = FakeMachine()
    machine.resume()
    machine.shell("sudo rm -f /etc/x; echo hi")
    ran = [entry.data["cmdline"] for entry in machine.journal() if entry.source == "process"]
    assert ran == [["sudo", "rm", "-f", "/etc/x"], ["echo", "hi"]]


def test_probes_read_the_fakes_files() -> None:
    machine = FakeMachine(files={"/etc/motd": "hello"})
    machine.resume()
    assert (
        machine.run_python("def main(p):\n    return open(p).read()\n", {"p": "/etc/motd"})
        == "hello"
    )
    with pytest.raises(GuestError, match="FileNotFoundError"):
        machine.run_python("def main():\n    return open('/etc/passwd').read()\n")

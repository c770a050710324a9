"""What every machine promises, on the fake and on real virtual machines alike."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from harmgym.disk import DiskView
from harmgym.errors import ActionError, GuestError, GuestTimeout, MachineError, StateError
from harmgym.machines.fake.machine import FakeMachine
from harmgym.machines.protocol import Machine, MachineState

Factory = Callable[[], Machine]


# Life


def test_a_machine_is_made_paused_and_can_be_looked_at(machine_factory: Factory) -> None:
    machine = machine_factory()
    assert isinstance(machine, Machine)
    assert machine.name
    assert machine.state is MachineState.PAUSED
    assert machine.screenshot().shape == (800, 1280, 3)
    with pytest.raises(StateError, match="running, but it is paused"):
        machine.shell("true")
    machine.stop()


def test_it_can_be_paused_and_resumed(machine: Machine) -> None:
    machine.pause()
    assert machine.state is MachineState.PAUSED
    machine.screenshot()
    with pytest.raises(StateError):
        machine.press("Return")
    machine.resume()
    assert machine.state is MachineState.RUNNING
    assert machine.shell("echo awake").status == 0


def test_stop_can_be_called_twice_and_ends_everything(machine_factory: Factory) -> None:
    machine = machine_factory()
    machine.resume()
    machine.stop()
    machine.stop()
    assert machine.state is MachineState.STOPPED
    for call in (
        machine.screenshot,
        machine.resume,
        machine.pause,
        machine.terminal,
        lambda: machine.move(1, 1),
    ):
        with pytest.raises(StateError, match="stopped"):
            call()


def test_two_machines_share_nothing_they_write(machine_factory: Factory, machine: Machine) -> None:
    other = machine_factory()
    other.resume()
    other.put("/home/user/only-here", b"x")
    assert machine.execute(["test", "-e", "/home/user/only-here"]).status == 1
    other.stop()


# Display


def test_screenshots_are_fresh_arrays(machine: Machine) -> None:
    one, two = machine.screenshot(), machine.wait_until_stable(2.0)
    for picture in (one, two):
        assert (picture.dtype, picture.shape) == (np.uint8, (800, 1280, 3))
        assert picture.flags.writeable
    assert not np.shares_memory(one, two)
    assert one.std() > 1  # a picture, not a blank


def test_waiting_for_a_stable_screen_keeps_to_its_cap(machine: Machine) -> None:
    start = time.monotonic()
    machine.move(5, 5)
    machine.wait_until_stable(0.5)
    assert time.monotonic() - start < 5


# Input


def test_pointer_and_keys_can_be_used(machine_factory: Factory) -> None:
    machine = machine_factory()
    machine.resume()
    machine.move(1279, 799)
    for button in ("left", "middle", "right"):
        machine.move(1270, 790)
        machine.button(button, True)
        machine.button(button, False)
    machine.scroll(0, 3)
    machine.scroll(-1, -1)
    machine.press("Escape")
    machine.wait_until_stable(2.0)
    assert machine.state is MachineState.RUNNING
    machine.stop()


def test_an_unknown_key_is_refused_and_breaks_nothing(machine: Machine) -> None:
    with pytest.raises(ActionError, match="did you mean 'return'"):
        machine.press("ctrl+retrun")
    assert machine.state is MachineState.RUNNING


def test_an_untypable_character_is_named_and_nothing_is_typed(machine: Machine) -> None:
    before = machine.terminal()
    with pytest.raises(ActionError, match="日"):
        machine.type_text("ab日")
    assert machine.terminal() == before


# Terminal


def test_a_command_gives_its_status_and_what_it_wrote(machine: Machine) -> None:
    result = machine.shell("echo one; echo two")
    assert (result.status, result.finished, result.interrupted, result.truncated) == (
        0,
        True,
        False,
        False,
    )
    assert "one\ntwo" in result.text
    assert result.seconds >= 0
    assert machine.shell("false").status == 1
    assert machine.shell("no-such-command-xyz").status == 127


def test_the_terminal_shows_what_the_command_wrote(machine: Machine) -> None:
    machine.shell("echo shown-in-the-window")
    assert machine.terminal().count("shown-in-the-window") >= 2  # the command and its output
    assert len(machine.terminal(max_chars=60)) <= 60 + 40  # a mark says how much was cut


def test_the_terminal_is_one_session(machine: Machine) -> None:
    machine.shell("cd /tmp")
    assert "/tmp" in machine.shell("pwd").text.splitlines()
    machine.shell("cd")
    assert "/home/user" in machine.shell("pwd").text.splitlines()
    assert machine.shell("false; echo status=$?").text.count("status=1") == 1


def test_text_of_any_script_comes_back(machine: Machine) -> None:
    assert "grüße 漢字" in machine.shell("echo 'grüße 漢字'").text.splitlines()


def test_a_command_that_never_returns_is_interrupted(machine: Machine) -> None:
    start = time.monotonic()
    result = machine.shell("sleep 300", timeout_s=1.0)
    assert result.interrupted
    assert result.status != 0
    assert time.monotonic() - start < 20
    assert machine.shell("echo still-here").status == 0


def test_endless_output_is_interrupted_and_cut(machine: Machine) -> None:
    result = machine.shell("yes abcdef", timeout_s=1.0, max_chars=4000)
    assert result.interrupted
    assert len(result.text) < 5000
    assert machine.shell("echo still-here").status == 0


def test_long_output_is_cut_in_the_middle(machine: Machine) -> None:
    result = machine.shell(
        "yes abcdefghij | head -n 1500; echo the-end", timeout_s=30.0, max_chars=2000
    )
    assert result.finished and result.status == 0
    assert result.truncated
    assert len(result.text) < 2500
    assert "cut ...]" in result.text
    assert "the-end" in result.text[-200:]


def test_a_session_that_is_ended_comes_back(machine: Machine) -> None:
    machine.shell("exit", timeout_s=5.0)
    deadline = time.monotonic() + 30
    while (
        machine.shell("echo back-again", timeout_s=3.0).status != 0 and time.monotonic() < deadline
    ):
        pass
    assert "back-again" in machine.terminal()


# Beside the terminal


def test_execute_gives_status_output_and_user(machine: Machine) -> None:
    result = (
        machine.execute("echo out; echo err >&2; exit 3")
        if _has_bash(machine)
        else machine.execute("echo out; exit 3")
    )
    assert (result.status, result.stdout, result.timed_out) == (3, b"out\n", False)
    assert machine.execute("whoami").stdout == b"root\n"
    assert machine.execute(["whoami"], user="user").stdout == b"user\n"
    assert machine.execute("sleep 100", timeout_s=0.5).timed_out


def _has_bash(machine: Machine) -> bool:
    return machine.execute(["test", "-e", "/bin/bash"]).status == 0


def test_succeed_raises_with_the_output(machine: Machine) -> None:
    assert machine.succeed("echo fine") == "fine\n"
    with pytest.raises(GuestError, match="status") as err:
        machine.succeed("cat /no/such/file")
    assert "No such file" in str(err.value)
    assert machine.succeed("echo fine") == "fine\n"


def test_wait_until_succeeds_polls_to_its_deadline_and_then_the_machine_is_broken(
    machine_factory: Factory,
) -> None:
    machine = machine_factory()
    machine.resume()
    machine.succeed("touch /tmp/there")
    machine.wait_until_succeeds("test -e /tmp/there", timeout_s=10)
    with pytest.raises(GuestTimeout, match="/tmp/never.* within 1 s"):
        machine.wait_until_succeeds("test -e /tmp/never", timeout_s=1)
    assert machine.state is MachineState.BROKEN
    with pytest.raises(StateError, match="broken"):
        machine.succeed("true")
    machine.stop()


def test_an_attempt_that_hangs_is_cut_and_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harmgym.machines.guest.client.ATTEMPT_S", 1.0)
    once = "mkdir /tmp/first-attempt && sleep 1000 || test -e /tmp/first-attempt"
    start = time.monotonic()
    machine.wait_until_succeeds(once, timeout_s=60)
    assert time.monotonic() - start < 30
    assert machine.state is MachineState.RUNNING


CALLS: dict[str, Callable[[Machine], object]] = {
    "execute": lambda machine: machine.execute("true", timeout_s=0.1),
    "succeed": lambda machine: machine.succeed("true", timeout_s=0.1),
    "wait_until_succeeds": lambda machine: machine.wait_until_succeeds("true", timeout_s=0.1),
    "run_python": lambda machine: machine.run_python("def main(): pass", timeout_s=0.1),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_guest_that_does_not_answer_leaves_the_machine_broken(
    machine_factory: Factory, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    machine = machine_factory()
    machine.resume()
    _hang(machine, call)
    monkeypatch.setattr("harmgym.machines.guest.client.SLACK_S", 0.5)
    with pytest.raises(GuestTimeout):
        CALLS[call](machine)
    assert machine.state is MachineState.BROKEN
    with pytest.raises(StateError, match="broken"):
        machine.succeed("true")
    machine.stop()


def _hang(machine: Machine, call: str) -> None:
    """Make the guest stop answering: on a real machine, stop its daemon."""
    if isinstance(machine, FakeMachine):
        machine.fail_next(call, GuestTimeout("no answer"))
        return
    daemon = machine.run_python("import os\ndef main(): return os.getppid()")
    machine.execute(f"(sleep 0.2; kill -STOP {daemon}) > /dev/null 2>&1 &")
    time.sleep(1.0)  # the guest cannot say that its daemon has stopped


def test_files_go_in_and_out(machine: Machine) -> None:
    data = bytes(range(256)) * 300
    machine.put("/home/user/new/folder/data.bin", data)
    assert machine.get("/home/user/new/folder/data.bin") == data
    assert machine.get("/home/user/new/folder/data.bin", max_bytes=10) == data[:10]
    machine.put("/home/user/new/folder/data.bin", b"")
    assert machine.get("/home/user/new/folder/data.bin") == b""


def test_python_runs_beside_the_terminal(machine: Machine) -> None:
    source = "def main(a, b=1):\n    return {'sum': a + b, 'list': [a] * 3}\n"
    assert machine.run_python(source, {"a": 4}) == {"sum": 5, "list": [4, 4, 4]}
    with pytest.raises(GuestError, match="ZeroDivisionError"):
        machine.run_python("def main():\n    return 1 / 0\n")
    with pytest.raises(GuestError, match="within") as err:
        machine.run_python("def main():\n    while True: pass\n", timeout_s=1.0)
    assert not isinstance(err.value, GuestTimeout)  # the guest answers: it ended the program
    assert machine.run_python(source, {"a": 1, "b": 1})["sum"] == 2


def test_processes_and_units_are_listed(machine: Machine) -> None:
    first = machine.processes()[0]
    assert (first.pid, first.uid) == (1, 0)
    pids = {p.pid for p in machine.processes()}
    units = machine.units()
    assert units
    assert {pid for found in units.values() for pid in found} & pids


def test_no_device_is_unplugged(machine: Machine) -> None:
    assert machine.unplugged() == ()


def test_the_journal_only_grows(machine: Machine) -> None:
    before = machine.journal()
    machine.shell("true; echo journal")
    machine.sync()
    after = machine.journal()
    assert after[: len(before)] == before
    assert [e.seq for e in after] == list(range(len(after)))


# The disk


def test_the_disk_is_read_while_the_machine_holds_still(machine_factory: Factory) -> None:
    machine = machine_factory()
    machine.resume()
    machine.put("/home/user/kept.txt", b"on the disk", mode=0o640, owner="user")
    machine.sync()
    with pytest.raises(StateError, match="paused or stopped, but it is running"):
        machine.disk_view()
    machine.pause()
    view = machine.disk_view()
    assert isinstance(view, DiskView)
    assert view.read("/home/user/kept.txt") == b"on the disk"
    stat = view.stat("/home/user/kept.txt")
    assert (stat.kind, stat.mode, stat.uid) == ("file", 0o640, 1000)
    assert view.stat("/home/user").is_dir
    machine.stop()
    assert machine.disk_view().text("/home/user/kept.txt") == "on the disk"


def test_a_view_of_the_disk_is_of_the_moment_it_was_taken(machine_factory: Factory) -> None:
    machine = machine_factory()
    before = machine.disk_view()
    assert not before.exists("/home/user/later.txt")
    machine.resume()
    machine.put("/home/user/later.txt", b"x")
    machine.sync()
    machine.pause()
    assert machine.disk_view().exists("/home/user/later.txt")
    machine.stop()


def test_a_fault_leaves_the_machine_broken_and_stoppable(machine_factory: Factory) -> None:
    machine = machine_factory()
    machine.resume()
    if hasattr(machine, "fail_next"):
        machine.fail_next("terminal")
    else:
        machine.qemu.process.kill()  # type: ignore[attr-defined]
        machine.qemu.process.wait(10)  # type: ignore[attr-defined]
    with pytest.raises(MachineError):
        machine.terminal()
    assert machine.state is MachineState.BROKEN
    with pytest.raises(StateError, match="broken"):
        machine.screenshot()
    machine.stop()
    assert machine.state is MachineState.STOPPED

"""QEMU machines: exact restores, inputs that arrive once, and processes that never outlive their
owner.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import shutil
import signal
import string
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harmgym.errors import ActionError, MachineError, SnapshotError, StateError
from harmgym.machines.pool import Pool
from harmgym.machines.protocol import MachineState
from harmgym.machines.qemu.launcher import Launcher
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.qemu.process import wait_until
from harmgym.machines.snapshots.proof import LIMITS, Limits
from harmgym.machines.snapshots.ram import copy_sparse
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.machines.snapshots.store import SnapshotStore

pytestmark = pytest.mark.vm


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_clones_show_the_same_picture_and_do_not_share_what_they_write(
    store: SnapshotStore, base: Snapshot
) -> None:
    one, two = store.clone(base), store.clone(base)
    try:
        assert np.array_equal(one.screenshot(), two.screenshot())
        one.resume()
        two.resume()
        one.succeed("echo mine > /home/user/only-here && sync")
        assert two.execute("test -e /home/user/only-here").status == 1
    finally:
        one.discard()
        two.discard()


def test_the_desktop_is_one_a_person_recognises(machine: QemuMachine) -> None:
    screen = machine.screenshot()
    assert len(np.unique(screen.reshape(-1, 3), axis=0)) > 200
    assert "firefox" in " ".join(p.comm for p in machine.processes()).lower()
    assert machine.succeed("ls /sys/class/net").split() == ["lo"]


def test_typed_text_arrives_once_and_whole_in_the_terminal_that_shell_actions_use(
    machine: QemuMachine,
) -> None:
    letters = string.ascii_letters + string.digits + "-_=+,./:@%^"
    text = "".join(letters[(7 * i) % len(letters)] for i in range(1500))
    machine.move(300, 600)  # inside the terminal window
    machine.button("left", True)
    machine.button("left", False)
    machine.type_text(f"echo {text} | wc -c\n")
    assert wait_until(lambda: "\n1501\n" in machine.terminal(), 30)
    assert text in machine.terminal().replace("\n", "")


def test_keys_wait_until_a_busy_x_server_has_taken_the_earlier_ones(machine: QemuMachine) -> None:
    stopped = "import os, signal\ndef main(name, sig):\n" + (
        "    pids = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "    [os.kill(int(p), sig) for p in pids if open(f'/proc/{p}/comm').read().strip() =="
        " name]\n"
    )
    machine.move(300, 600)
    machine.button("left", True)
    machine.button("left", False)
    machine.run_python(stopped, {"name": "Xorg", "sig": int(signal.SIGSTOP)})
    assert not machine.guest.input_taken(0.2)
    timer = threading.Timer(
        1.0, machine.run_python, (stopped, {"name": "Xorg", "sig": int(signal.SIGCONT)})
    )
    timer.start()
    machine.type_text(
        "echo " + "Ab" * 40 + "| wc -c\n"
    )  # more events than the guest keeps for a server that does not read
    timer.join()
    assert wait_until(lambda: "\n81\n" in machine.terminal(), 10)


def test_escape_at_the_prompt_takes_nothing_from_the_next_command(machine: QemuMachine) -> None:
    machine.move(300, 600)
    machine.button("left", True)
    machine.button("left", False)
    machine.press("Escape")
    machine.wait_until_stable(1.0)
    done = machine.shell("echo whole")
    assert done.status == 0 and "whole\n" in done.text.split("echo whole")[1]


def test_an_untypable_character_is_named_and_nothing_is_typed(machine: QemuMachine) -> None:
    before = machine.terminal()
    with pytest.raises(ActionError, match="日"):
        machine.type_text("ab日")
    assert machine.terminal() == before


def test_the_pointer_goes_where_it_is_sent(machine: QemuMachine) -> None:
    before = machine.screenshot()
    machine.move(640, 700)
    after = machine.wait_until_stable(2.0)
    changed = np.argwhere((before != after).any(axis=2))
    assert len(changed)
    assert np.abs(changed - (700, 640)).max(axis=1).min() < 3


def test_calls_in_the_wrong_state_name_both_states(store: SnapshotStore, base: Snapshot) -> None:
    machine = store.clone(base)
    with pytest.raises(StateError, match="running, but it is paused"):
        machine.shell("true")
    machine.discard()
    machine.stop()
    assert machine.state is MachineState.STOPPED
    with pytest.raises(StateError, match="it is stopped"):
        machine.screenshot()


def test_a_killed_qemu_is_a_machine_error_and_leaves_the_machine_broken(
    store: SnapshotStore, base: Snapshot
) -> None:
    machine = store.clone(base)
    machine.resume()
    os.kill(machine.qemu.process.pid, signal.SIGKILL)
    with pytest.raises(MachineError):
        machine.shell("true")
    assert machine.state is MachineState.BROKEN
    machine.discard()


def test_an_answer_that_says_no_does_not_break_the_machine(machine: QemuMachine) -> None:
    with pytest.raises(MachineError, match="nowhere"):
        machine.get("/nowhere")
    assert machine.state is MachineState.RUNNING
    assert machine.shell("echo still-here").status == 0


OWNER = """
import sys
from harmgym.images.build import ensure_image
from harmgym.machines.pool import Pool
from harmgym.machines.snapshots.store import SnapshotStore
store = SnapshotStore(ensure_image("debian-12"))
pool = Pool(store, standbys=1)
base = store.base()
machine = pool.lease(base)
pool.wait_warm(base)
machine.resume()
print(machine.qemu.process.pid, pool._ready[base.key][0].qemu.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_qemu_outlives_a_killed_python(base: Snapshot, how: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2 and all(alive(pid) for pid in pids)
    owner.send_signal(how)
    owner.wait(20)
    assert wait_until(lambda: not any(alive(pid) for pid in pids), 5)


def resident(path: Path, size: int) -> int:
    """Return how many of the first `size` bytes of a file lie in the host's page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as memory:
        pages = ctypes.create_string_buffer(size // mmap.PAGESIZE)
        start = ctypes.addressof(here := ctypes.c_char.from_buffer(memory))
        assert libc.mincore(start, size, pages) == 0, os.strerror(ctypes.get_errno())
        del here  # else the map could not be closed
    return mmap.PAGESIZE * sum(page & 1 for page in pages.raw)


def test_every_file_of_a_chain_stays_in_the_page_cache(
    store: SnapshotStore, base: Snapshot, scratch: None
) -> None:
    derived = store.derive(base, "test-note", "test note", lambda machine: None)
    clone = store.clone(derived)
    try:
        words = (clone.folder / "command.txt").read_text().splitlines()
        files = [word for word in words if word.startswith("driver=file,")]
        assert len(files) == len(clone.disk_chain()) == 4
        for path, node in zip(reversed(clone.disk_chain()), files, strict=True):
            assert f"filename={path}," in node and ",drop-cache=off" in node, node
    finally:
        clone.discard()


def test_a_restore_leaves_the_base_disk_in_the_page_cache(
    store: SnapshotStore, base: Snapshot, tmp_path: Path
) -> None:
    # A copy, because other programs that restore machines meanwhile read and drop the real one.
    size, disk = 64 << 20, tmp_path / "disk.raw"
    with base.chain[-1].open("rb") as source, disk.open("wb") as copy:
        copy.write(source.read(size))
        copy.truncate(base.chain[-1].stat().st_size)
        os.fsync(copy.fileno())  # the kernel never drops what is not written yet
    before = resident(disk, size)
    assert before == size
    folder = tmp_path / "machine"
    folder.mkdir()
    launcher = Launcher(store.hardware, disk, store.root)
    machine = launcher.restore(folder, base.state, (*base.chain[:-1], disk), base.ram)
    try:
        assert resident(disk, size) == before
    finally:
        machine.discard()


def test_machines_get_no_huge_pages(machine: QemuMachine) -> None:
    rollup = Path(f"/proc/{machine.qemu.process.pid}/smaps_rollup").read_text()
    assert re.search(r"^AnonHugePages:\s+0 kB$", rollup, re.M), rollup
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    assert "THP_enabled:\t1" in status  # and the program that starts them keeps its own


@pytest.fixture
def scratch(store: SnapshotStore, base: Snapshot) -> Iterator[None]:
    """Remove the snapshots of these tests from the cache that everybody uses."""
    yield
    for name in ("test-note", "test-damage"):
        key = store.derived_key(base.key, name)[:20]
        shutil.rmtree(store.root / key, ignore_errors=True)


def test_a_derived_snapshot_stores_a_difference_and_restores_its_setup(
    store: SnapshotStore, base: Snapshot, scratch: None
) -> None:
    calls = []

    def setup(machine: QemuMachine) -> dict[str, object]:
        calls.append(1)
        machine.put("/home/user/note.txt", b"from the set-up", owner="user")
        return {"note": 1}

    builders = [
        threading.Thread(target=lambda: store.derive(base, "test-note", "test note", setup))
        for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    snapshot = store.derive(base, "test-note", "test note", setup)
    assert len(calls) == 1
    assert snapshot.meta == {"note": 1}
    assert snapshot.manifest.files["ram.delta"].size < 200 << 20
    clone = store.clone(snapshot)
    try:
        clone.resume()
        assert clone.get("/home/user/note.txt") == b"from the set-up"
    finally:
        clone.discard()


def test_a_damaged_snapshot_is_named_and_built_again(
    store: SnapshotStore, base: Snapshot, scratch: None
) -> None:
    def setup(machine: QemuMachine) -> None:
        machine.put("/root/damage-test", b"x")

    snapshot = store.derive(base, "test-damage", "test damage", setup)
    state = snapshot.state
    state.chmod(0o644)
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(SnapshotError, match="expected .* bytes, got"):
        store.clone(snapshot)
    again = store.derive(base, "test-damage", "test damage", setup)
    data = bytearray(again.state.read_bytes())
    data[len(data) // 2] ^= 0xFF
    again.state.chmod(0o644)
    again.state.write_bytes(data)
    with pytest.raises(SnapshotError, match="expected SHA-256"):
        store.verify(again)


def test_a_failed_setup_leaves_nothing_behind(store: SnapshotStore, base: Snapshot) -> None:
    def setup(machine: QemuMachine) -> None:
        machine.succeed("exit 3")

    with pytest.raises(MachineError, match="3"):
        store.derive(base, "test-failing", "test failing", setup)
    key = store.derived_key(base.key, "test-failing")
    assert not list(store.root.glob(f"*{key[:20]}"))


def test_a_lease_takes_the_standby(store: SnapshotStore, base: Snapshot) -> None:
    pool = Pool(store, standbys=1)
    try:
        pool.warm(base)
        pool.wait_warm(base)
        machine = pool.lease(base)
        machine.resume()
        assert "user" in machine.terminal()
        pool.release(machine)
        assert machine.state is MachineState.STOPPED
    finally:
        pool.close()


def test_the_owner_of_a_base_may_clone_it(base: Snapshot) -> None:
    """QEMU opens the file behind RAM for writing, whatever it maps; root is let through anyway, so
    that only the mode can tell here.
    """
    assert base.ram.stat().st_mode & 0o777 == 0o644
    assert base.state.stat().st_mode & 0o222 == 0


def test_the_base_is_proven_quiet(base: Snapshot) -> None:
    assert base.manifest.proof is not None and base.manifest.proof.within(LIMITS)


def test_a_base_whose_clone_costs_too_much_is_frozen_again_and_says_so(
    store: SnapshotStore, base: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harmgym.machines.qemu.boot.QUIET_SECONDS", range(60))
    monkeypatch.setattr("harmgym.machines.snapshots.store.FREEZES", 2)
    said: list[str] = []
    store = SnapshotStore(store.image, progress=said.append)
    ram, state, folder = tmp_path / "ram", tmp_path / "state", tmp_path / "machine"
    copy_sparse(base.ram, ram)
    folder.mkdir()
    launcher = Launcher(store.hardware, store.image.disk, store.root)
    template = launcher.restore(folder, base.state, base.chain, ram, template=True)
    try:
        template.resume()
        template.put("/tmp/in-memory", b"kept")
        limits = Limits(seconds=1.0, private_mib=1.0)
        proof = store.freeze_quiet(template, state, ram, limits, rest_s=4.0)
        assert proof.attempt == 2 and proof.private_mib > 1.0 and not proof.within(limits)
        assert [line for line in said if "frozen again" in line or "base is kept" in line] == [
            "that is too much, so the base settles for longer and is frozen again",
            "the base is kept, but its clones cost more than 1 MiB or 0.6 s:"
            " rebuild it on a quieter host",
        ]
        (clone_folder := tmp_path / "clone").mkdir()
        clone = launcher.restore(clone_folder, state, template.disk_chain(), ram)
        clone.resume()  # frozen twice, it is as good as frozen once
        assert clone.get("/tmp/in-memory") == b"kept"
        clone.discard()
    finally:
        template.discard()

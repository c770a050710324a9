"""The image as it runs: what `harmgym image verify` looks at, on a clone of the settled desktop."""

from __future__ import annotations

import pytest

from harmgym.images.image import load_recipe
from harmgym.images.verify import problems, verify
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.machines.snapshots.store import SnapshotStore

pytestmark = pytest.mark.vm


def test_the_built_image_verifies(store: SnapshotStore, base: Snapshot) -> None:
    def start() -> QemuMachine:
        clone = store.clone(base)
        clone.resume()
        return clone

    found = verify(store.image, start)
    assert problems(found, load_recipe(store.image.name)) == []
    assert any("Start page" in title for title in found["windows"])


def test_no_file_of_the_image_is_younger_than_the_guest_s_clock(machine: QemuMachine) -> None:
    assert machine.succeed("date +%F") == "2025-06-02\n"
    young = machine.succeed(
        "find / -xdev -newermt tomorrow ! -path '/proc/*' | head -5", timeout_s=120
    )
    assert young == ""


def test_the_user_may_use_sudo_with_the_password_only(machine: QemuMachine) -> None:
    assert machine.execute("sudo -n true", user="user").status != 0
    assert machine.succeed("echo password | sudo -S id -u", user="user") == "0\n"


def test_the_kernel_takes_no_module_and_no_other_kernel(machine: QemuMachine) -> None:
    assert machine.execute("modprobe dummy").status != 0
    assert machine.succeed("cat /proc/sys/kernel/kexec_load_disabled") == "1\n"
    assert machine.execute("sysctl -w kernel.modules_disabled=0").status != 0

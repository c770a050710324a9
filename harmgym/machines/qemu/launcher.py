"""Starting QEMU on an image or on a snapshot: the one place where a command line, files and a
restore come together.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from harmgym.errors import MachineError
from harmgym.machines.protocol import JournalEntry
from harmgym.machines.qemu.hardware import Hardware
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.qemu.process import wait_until

RESTORE_TIMEOUT_S = 60.0


class Launcher:
    """Starts machines on `hardware`. `disk` is the image that a boot starts from; `cache` keeps an
    empty overlay to copy.
    """

    def __init__(self, hardware: Hardware, disk: Path, cache: Path) -> None:
        self.hardware, self.disk, self.cache = hardware, disk, cache

    def boot(self, folder: Path) -> QemuMachine:
        """Return a RUNNING machine that boots the image, its RAM in `folder`/ram."""
        ram = folder / "ram"
        with ram.open("wb") as file:
            file.truncate(self.hardware.memory_mib << 20)
        chain = (self._new_overlay(folder), self.disk)

        def arguments(qmp_fd: int, guest_fd: int) -> list[str]:
            return [
                *self.hardware.arguments(
                    ram, True, chain, qmp_fd, guest_fd, folder / "serial.log", boot=True
                ),
                "-S",
            ]

        machine = QemuMachine(folder.name, folder, arguments, chain)
        try:
            _share_memory(machine)
            machine.resume()
        except BaseException:
            machine.stop()
            raise
        return machine

    def restore(
        self,
        folder: Path,
        state: Path,
        frozen: Sequence[Path],
        ram: Path,
        template: bool = False,
        journal: Sequence[JournalEntry] = (),
        vnc: bool = False,
        fill: Callable[[int], None] | None = None,
    ) -> QemuMachine:
        """Return a PAUSED machine as a snapshot has it: `state` holds its devices, `frozen` its
        disk, newest first.

        `ram` is the snapshot's RAM: written through by a `template`, else mapped copy-on-write.
        `fill` gets QEMU's process id when RAM is mapped and devices are not loaded yet: what it
        writes into that memory, virtio devices already see when they look up their queues there.

        `journal`: the lines that the machine's journal begins with. Raises: MachineError with
        QEMU's own words when it cannot be restored.
        """
        chain = (self._new_overlay(folder), *frozen)
        # QEMU inherits the open file: its sandbox forbids it to start the program of an "exec:"
        # address, and 7.2 knows no "file:".
        with state.open("rb") as devices:

            def arguments(qmp_fd: int, guest_fd: int) -> list[str]:
                args = self.hardware.arguments(
                    ram, template, chain, qmp_fd, guest_fd, folder / "serial.log", boot=False
                )
                return [
                    *args,
                    "-S",
                    "-incoming",
                    "defer",
                    *(["-vnc", "127.0.0.1:0,to=99"] if vnc else []),
                ]

            machine = QemuMachine(
                folder.name, folder, arguments, chain, [devices.fileno()], journal
            )
            try:
                _share_memory(machine)
                if fill is not None:
                    fill(machine.qemu.process.pid)
                machine.qmp("migrate-incoming", {"uri": f"fd:{devices.fileno()}"})
                _wait_restored(machine)
            except BaseException:
                machine.stop()
                raise
            return machine

    def _new_overlay(self, folder: Path) -> Path:
        """Return an empty overlay: a copy of a ready-made one, which is ten times faster than
        qemu-img.
        """
        size = self.disk.stat().st_size
        empty = self.cache / f"empty-{size}.qcow2"
        if not empty.exists():
            aside = empty.with_name(f".{empty.name}.{os.getpid()}")
            command = ["qemu-img", "create", "-q", "-f", "qcow2", str(aside), str(size)]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            aside.replace(empty)
        return Path(shutil.copyfile(empty, folder / "disk.qcow2"))


def _share_memory(machine: QemuMachine) -> None:
    """RAM that is a file stays where it is: only device state travels."""
    capability = {"capability": "x-ignore-shared", "state": True}
    machine.qmp("migrate-set-capabilities", {"capabilities": [capability]})


def _wait_restored(machine: QemuMachine) -> None:
    """Wait until QEMU has loaded the device state. Raises: MachineError with QEMU's own words when
    it cannot.
    """

    def ready() -> bool:
        status = machine.qmp("query-status")["status"]
        if status in ("internal-error", "io-error", "guest-panicked"):
            raise MachineError(f"restoring ended as {status}: {machine.qemu.tail()}")
        return bool(status != "inmigrate")

    if not wait_until(ready, RESTORE_TIMEOUT_S, step_s=0.002):
        raise MachineError(
            f"restoring needed less than {RESTORE_TIMEOUT_S:g} s, found it still running:"
            f" {machine.qemu.tail()}"
        )

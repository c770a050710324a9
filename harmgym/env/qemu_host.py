"""The host of a virtual machine, looked at when the machine fails."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable

from harmgym.env.faults import Qemu
from harmgym.env.provider import Lease
from harmgym.errors import CapacityError, GuestError, HarmgymError, MachineError
from harmgym.judging.blame import what_went_wrong
from harmgym.judging.judge import cut_by_guest
from harmgym.machines.pool import Pool, available_mib
from harmgym.machines.protocol import MachineState
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.snapshots.snapshot import Snapshot

MONITOR_S = 10.0
LAST_CHANCE_S = 10.0
"""For the machine and its sibling alike, so that a busy host hits both."""


class QemuHost:
    """See `harmgym.env.faults.Host`."""

    def __init__(
        self, lease: Lease, since: int, pool: Pool, release: Callable[[QemuMachine], None]
    ) -> None:
        """`since`: where the episode's journal begins; `release` stops a sibling, in the
        background.
        """
        assert isinstance(lease.machine, QemuMachine)
        self._machine, self._before, self._pool = lease.machine, lease.before, pool
        self._since, self._release = since, release

    def ended_by_guest(self) -> bool:
        machine = self._machine
        return machine.switched_off or bool(cut_by_guest(machine.journal()[self._since :]))

    def qemu(self) -> Qemu:
        if self._machine.state is MachineState.STOPPED:
            return Qemu(state="halted", words="the machine was stopped for judging")
        process = self._machine.qemu.process
        try:
            status = str(self._machine.qmp("query-status", timeout_s=MONITOR_S)["status"])
        except MachineError as err:
            try:
                # A monitor that has just closed may be a moment ahead of the process's end.
                code = process.wait(1.0)
            except subprocess.TimeoutExpired:
                return Qemu(state="stuck", words=what_went_wrong(err))
            return Qemu(state="gone", words=f"QEMU has ended with exit code {code}")
        if status == "io-error":
            return Qemu(state="io_error", words="QEMU could not write the disk on the host")
        live = status in ("running", "paused")
        return Qemu(state="runs" if live else "halted", words=f"the machine is {status}")

    def free_memory_mib(self) -> int:
        return available_mib()

    def free_disk_mib(self) -> int:
        folder = self._machine.folder
        return shutil.disk_usage(folder if folder.exists() else folder.parent).free >> 20

    def sibling(self) -> str:
        assert isinstance(self._before, Snapshot)
        asking = threading.Thread(target=self._ask_again, name="harmgym-last-chance")
        asking.start()
        try:
            return self._other(self._before)
        finally:
            asking.join()

    def _ask_again(self) -> None:
        """Put on the journal that the guest is silent while its sibling is asked."""
        guest = self._machine.guest
        try:
            guest.ping(LAST_CHANCE_S)
        except GuestError:
            if guest.open and not guest.guest_closed:
                guest.note_guest_hung()

    def _other(self, snapshot: Snapshot) -> str:
        sibling: QemuMachine | None = None
        try:
            sibling = self._lent(snapshot)
            sibling.resume()
            sibling.guest.ping(LAST_CHANCE_S)
            sibling.terminal()
            sibling.screenshot()
        except HarmgymError as err:
            return f"another machine of the same snapshot failed too: {what_went_wrong(err)}"
        finally:
            if sibling is not None:
                self._release(sibling)
        return ""

    def _lent(self, snapshot: Snapshot) -> QemuMachine:
        try:
            return self._pool.lease(snapshot)
        except CapacityError:
            # That the budget of machines is spent says nothing about the host: one more, shortly.
            return self._pool.store.clone(snapshot)

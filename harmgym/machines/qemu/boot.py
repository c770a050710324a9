"""Waiting until a guest has nothing left to do. Only a settled guest makes a snapshot whose clones
cost no CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harmgym.errors import GuestTimeout
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.qemu.process import cpu_seconds

# Generous: a host that is busy with other machines takes several times as long, and a base snapshot
# is built once.
BOOT_TIMEOUT_S, READY_TIMEOUT_S, IDLE_TIMEOUT_S = 600.0, 1200.0, 1200.0
READY_INTERVAL_S = 3.0


def wait_idle(
    machine: QemuMachine,
    below: float = 0.06,
    window_s: float = 4.0,
    windows: int = 15,
    timeout_s: float = IDLE_TIMEOUT_S,
) -> float:
    """Wait until QEMU used less than `below` of a core in `windows` windows in a row; return the
    last share.

    A minute of rest by default: a browser puts some of its start-up off for 40 s, and what it does
    then would otherwise be done, and held in memory, by every clone again.

    Raises: GuestTimeout with the share that was last seen.
    """
    pid, quiet, share = machine.qemu.process.pid, 0, 1.0
    deadline = time.monotonic() + timeout_s
    while quiet < windows:
        if time.monotonic() > deadline:
            raise GuestTimeout(
                f"needed a guest below {below:.0%} of a core within {timeout_s:g} s, found {share:.0%}"
            )
        start, used = time.monotonic(), cpu_seconds(pid)
        time.sleep(window_s)  # the measuring window
        share = (cpu_seconds(pid) - used) / (time.monotonic() - start)
        quiet = quiet + 1 if share < below else 0
    return share


def settle_base(machine: QemuMachine, ready_command: str, progress: Callable[[str], None]) -> None:
    """Wait from power-on until the desktop is up and idle."""
    wait_desktop(machine, ready_command, progress)
    progress("desktop is up, waiting until the guest is idle")
    wait_idle(machine)


def wait_desktop(machine: QemuMachine, ready_command: str, progress: Callable[[str], None]) -> None:
    """Wait from power-on until the desktop is up: `wait_idle` then waits until it is at rest."""
    try:
        machine.guest.wait_journal(
            lambda entry: entry.data.get("what") == "guest_opened", BOOT_TIMEOUT_S
        )
    except GuestTimeout as err:
        log = machine.folder / "serial.log"
        raise GuestTimeout(
            f"needed the guest daemon within {BOOT_TIMEOUT_S:g} s of power-on ({err}); see {log}"
        ) from None
    progress("guest is up, waiting for the desktop and the browser")
    _wait_ready(machine, ready_command)
    machine.terminal()  # the daemon attaches to the terminal once, here: else every clone would, for half a second


def _wait_ready(machine: QemuMachine, command: str) -> None:
    """Ask now and then, not all the time: without KVM every question costs the guest half a second
    of its only core.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while (result := machine.execute(command, timeout_s=60.0)).status != 0:
        if time.monotonic() > deadline:
            said = (result.stdout + result.stderr).decode(errors="replace").strip()
            raise GuestTimeout(
                f"needed the desktop within {READY_TIMEOUT_S:g} s, found: {said or 'no answer'}"
            )
        time.sleep(READY_INTERVAL_S)  # the interval between two looks

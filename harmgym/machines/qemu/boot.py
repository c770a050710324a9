"""Waiting until a guest has nothing left to do. Only a settled guest makes a snapshot whose clones
cost no CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harmgym.errors import GuestTimeout
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.qemu.process import cpu_seconds, wanted_cpu_seconds

# Generous: a host that is busy with other machines takes several times as long, and a base snapshot
# is built once.
BOOT_TIMEOUT_S, READY_TIMEOUT_S, IDLE_TIMEOUT_S = 600.0, 1200.0, 1200.0
READY_INTERVAL_S = 3.0
WINDOW_S = 4.0
REST_S = 60.0
"""How long the guest must have been idle: a browser puts some of its start-up off for 40 s, and
what it does then would otherwise be done, and held in memory, by every clone again."""
# Once a minute, at second 0 of the guest's clock, the panel draws the time and cron looks at its
# tables. A machine that is frozen in these seconds leaves its clones 45 s before that is due.
QUIET_SECONDS = range(6, 15)


def wait_idle(
    machine: QemuMachine,
    rest_s: float = REST_S,
    below: float = 0.06,
    wanted_below: float = 0.35,
    timeout_s: float = IDLE_TIMEOUT_S,
) -> float:
    """Wait until the guest used less than `below` of a core, and wanted less than `wanted_below`,
    in every window of the last `rest_s` seconds; return the last share.

    Use alone says little on a crowded host, where a busy guest gets a twentieth of a core and wants
    all of it. An idle one was seen to wait for up to 0.15 of the time there, at a load of 20.
    Raises: GuestTimeout with the share that was last seen.
    """
    pid, rested, share = machine.qemu.process.pid, 0.0, 1.0
    deadline = time.monotonic() + timeout_s
    while rested < rest_s:
        if time.monotonic() > deadline:
            raise GuestTimeout(
                f"needed a guest below {below:.0%} of a core within {timeout_s:g} s,"
                f" found {share:.0%}"
            )
        start, used, wanted = time.monotonic(), cpu_seconds(pid), wanted_cpu_seconds(pid)
        time.sleep(WINDOW_S)  # the measuring window
        passed = time.monotonic() - start
        share = (cpu_seconds(pid) - used) / passed
        idle = share < below and (wanted_cpu_seconds(pid) - wanted) / passed < wanted_below
        rested = rested + passed if idle else 0.0
    return share


def wait_quiet_moment(machine: QemuMachine) -> None:
    """Wait until nothing periodic is due in the guest for a while: until its clock shows one of
    `QUIET_SECONDS`.
    """
    second = int(machine.succeed("date +%S"))
    if second not in QUIET_SECONDS:
        # The guest's clock runs with the host's: asked again, it would only be disturbed again.
        time.sleep((QUIET_SECONDS.start - second) % 60)


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
    # The daemon attaches to the terminal once, here: else every clone would, for half a second.
    machine.terminal()


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

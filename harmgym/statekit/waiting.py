"""Waiting for what set-up sets going: for a line that an app journals, for a guest at rest."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from harmgym.errors import GuestTimeout
from harmgym.machines.protocol import JournalEntry, Machine

JOURNAL_S, IDLE_S = 120.0, 240.0


def entries(journal: Iterable[JournalEntry], app: str) -> list[dict[str, Any]]:
    """Return what an app journalled, oldest first."""
    return [entry.data for entry in journal if entry.source == f"app:{app}"]


def wait_journal(
    machine: Machine, app: str, timeout_s: float = JOURNAL_S, **fields: Any
) -> dict[str, Any]:
    """Return the first journal entry of the app with these fields (None: without the field), there
    already or within `timeout_s` seconds. Raises: GuestTimeout.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = entries(machine.journal(), app)
        for entry in found:
            if all(entry.get(name) == value for name, value in fields.items()):
                return entry
        if time.monotonic() > deadline:
            raise GuestTimeout(
                f"the app {app!r} journalled no entry with {fields} within {timeout_s:g} s;"
                f" last: {found[-1:]}"
            )
        time.sleep(0.02)  # between two looks, never instead of one


def wait_idle(
    machine: Machine, windows: int = 1, busy: float = 0.12, timeout_s: float = IDLE_S
) -> float:
    """Wait until the guest's processors were busy for less than the share `busy` in `windows`
    seconds in a row; return the share of the last.

    Only a guest at rest makes a snapshot whose clones cost nothing. It looks from inside, in one
    call: a call for each look would itself keep an emulated guest busy.
    Raises: GuestTimeout with the share last seen.
    """
    wanted = {"windows": windows, "busy": busy, "timeout_s": timeout_s}
    quiet, share = machine.run_python(_REST, wanted, timeout_s=timeout_s + 60.0)
    if quiet < windows:
        raise GuestTimeout(
            f"needed a guest that is busy less than {busy:.0%} of the time for {windows} s"
            f" within {timeout_s:g} s, found {share:.0%}"
        )
    return float(share)


# A window slides: the last second counts, looked at ten times a second, wherever it begins.
_REST = """
import time

def main(windows, busy, timeout_s):
    end, looks, share = time.monotonic() + timeout_s, [times()], 1.0
    quiet_since = None
    while time.monotonic() < end:
        time.sleep(0.1)  # between two looks
        looks = [*looks[-10:], times()]
        total, idle = (now - then for now, then in zip(looks[-1], looks[0]))
        if len(looks) < 11:
            continue
        share = 1 - idle / max(total, 1)
        if share >= busy:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic() - 1
        if quiet_since is not None and time.monotonic() - quiet_since >= windows:
            return windows, share
    return 0, share

def times():
    with open("/proc/stat") as stat:
        values = [int(x) for x in stat.readline().split()[1:9]]
    return sum(values), values[3] + values[4]
"""

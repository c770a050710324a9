"""The proof that a base snapshot is quiet: what a fresh clone of it holds and burns by itself.

What a guest has still to do when it is frozen, every clone does again, and holds in memory again. A
guest that looks idle may be a second away from it, so a clone is watched before the base is kept.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from harmgym.machines import folders as runtime
from harmgym.machines.qemu.launcher import Launcher
from harmgym.machines.qemu.process import cpu_seconds, private_bytes
from harmgym.records import Record


class Limits(Record):
    """What a fresh clone may hold and burn in its first `seconds`. A quiet one was measured at 31
    to 37 MiB and 0.2 s, one that still had the browser's jobs before it at 100 MiB and 1.2 s.
    """

    seconds: float = 20.0
    private_mib: float = 56.0
    cpu_s: float = 0.6


LIMITS = Limits()


class Proof(Record):
    """What a fresh clone held (MiB of private memory) and burnt (CPU seconds of its QEMU) in its
    first `seconds`, after the base was frozen for the `attempt`th time.
    """

    seconds: float
    private_mib: float
    cpu_s: float
    attempt: int

    def within(self, limits: Limits) -> bool:
        """Whether the clone kept to the limits."""
        return self.private_mib <= limits.private_mib and self.cpu_s <= limits.cpu_s

    def sentence(self) -> str:
        return (
            f"a fresh clone held {self.private_mib:g} MiB and used {self.cpu_s:g} s of CPU"
            f" in {self.seconds:g} s"
        )


def prove(
    launcher: Launcher,
    state: Path,
    chain: Sequence[Path],
    ram: Path,
    attempt: int,
    seconds: float,
) -> Proof:
    """Restore a clone, let it run untouched for `seconds`, and measure it."""
    folder = runtime.new_folder()
    try:
        clone = launcher.restore(folder, state, chain, ram)
        try:
            pid = clone.qemu.process.pid
            used = cpu_seconds(pid)
            clone.resume()
            time.sleep(seconds)  # the measuring window
            return Proof(
                seconds=seconds,
                private_mib=round(private_bytes(pid) / 2**20, 1),
                cpu_s=round(cpu_seconds(pid) - used, 2),
                attempt=attempt,
            )
        finally:
            clone.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)

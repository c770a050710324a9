"""The one writable copy of a base's RAM, on which harm states are set up one after the other.

A machine whose state is to be saved without its RAM needs that RAM in a shared file. Copying the
base for each state costs half a second to three seconds and 780 MB of writes. So the copy is kept:
when a state's pages have been stored, they are overwritten with the base's (10 to 100 MiB), and the
copy is as good as new.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from harmgym.machines.snapshots.ram import Pages, copy_pages, copy_sparse


class ScratchRam:
    """Keeps at most one copy for each base under `folder`; processes that come too late make their
    own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, base: Path) -> Path:
        # A copy is not synced to the disk, so after a crash of the host it cannot be trusted.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return self.folder / f"{base.parent.name}-{boot}.ram"

    def cost(self, base: Path) -> int:
        """Return the bytes that `take` would newly write to the disk."""
        return 0 if self._file(base).exists() else base.stat().st_blocks * 512

    def take(self, base: Path, target: Path) -> None:
        """Put a writable copy of the base's RAM at `target`, which is on the same file system.

        Taking is a rename, so two builders never get the same copy, and a copy that a builder
        leaves behind half-written is never found by another.
        """
        try:
            self._file(base).rename(target)
        except FileNotFoundError:
            self._forget_old()
            copy_sparse(base, target)

    def give_back(self, base: Path, used: Path, pages: Pages) -> None:
        """Take back a copy in which exactly `pages` differ from the base. No process maps it any
        more.
        """
        self.folder.mkdir(exist_ok=True)
        copy_pages(base, used, pages)
        used.rename(self._file(base))

    def _forget_old(self) -> None:
        """Remove copies of bases that are gone and of earlier boots."""
        for file in self.folder.glob("*.ram"):
            base = file.stem.rpartition("-")[0]
            folder = self.folder.parent / base
            if not folder.exists() or file != self._file(folder / "ram"):
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()

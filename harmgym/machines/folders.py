"""Folders of live machines, and clearing away what a killed process left."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from harmgym.paths import runtime_dir


def new_folder() -> Path:
    """Make the folder of a new machine, marked with its owner so that `reap` can tell it from a
    left-over.
    """
    root = runtime_dir()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = root / f"m-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    (folder / "owner").write_text(f"{os.getpid()} {_started(os.getpid())}")
    return folder


def reap() -> list[str]:
    """Remove folders whose owner is gone; return their names. Their QEMUs died with the owner."""
    gone = []
    for folder in sorted(runtime_dir().glob("m-*")):
        if not _owned(folder):
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder.name)
    return gone


def _owned(folder: Path) -> bool:
    try:
        pid, started = (folder / "owner").read_text().split()
    except (OSError, ValueError):
        return False
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    """Return the start time of a process in clock ticks, so that a reused process id is not
    mistaken for the owner.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "gone"

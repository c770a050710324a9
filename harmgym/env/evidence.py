"""Keeping what explains a machine fault."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

from harmgym.paths import cache_dir
from harmgym.text import encodable

KEPT_FAILURES = 20
FILE_BYTES = 1 << 20


def keep_folder(folder: Path, name: str, reason: str, root: Path | None = None) -> str | None:
    """Copy the small files of a machine's folder to ``<cache>/failures``; return where.

    The newest `KEPT_FAILURES` are kept. Returns None when the host has no room left: a full disk
    must not hide the fault itself.
    """
    base = (root or cache_dir()) / "failures"
    target = base / f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S-%f}-{name}"
    try:
        target.mkdir(parents=True)
        (target / "error.txt").write_text(encodable(reason), encoding="utf-8")
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.is_file() and file.stat().st_size <= FILE_BYTES:
                shutil.copy2(file, target / file.name)
        for old in sorted(base.iterdir())[:-KEPT_FAILURES]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:
        return None
    return str(target)

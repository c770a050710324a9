"""Writing files whole or not at all, and their digests: the one place that does either."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from harmgym.errors import InputError


def write_atomic(path: Path, content: str | bytes, sync: bool = False) -> None:
    """Write a file aside and rename it, so that a reader finds the old content or the new one.

    `sync`: ask the disk to keep it before the rename, for what a crash must not lose. A failed
    write leaves the old file as it was. Raises: OSError.
    """
    data = content.encode() if isinstance(content, str) else content
    # The process id keeps two writers of one file out of each other's way.
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_files(folder: Path) -> list[tuple[str, Path]]:
    """Return (relative name, path) of every file below a folder, sorted, Python's caches left out.

    Raises: InputError when there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"needed a folder, found none at {folder}")
    return [
        (path.relative_to(folder).as_posix(), path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def digest_of(files: Iterable[tuple[str, Path]]) -> str:
    """Return one SHA-256 over names and contents: it changes when either does."""
    total = hashlib.sha256()
    for name, path in files:
        total.update(f"{name}\0{sha256_of(path)}\n".encode())
    return total.hexdigest()

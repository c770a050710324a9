"""The bound of the cache: what is least recently used goes first, what is in use never goes.

Everything that takes space in ``<cache>`` and can be made again is an *entry*: the folder of an
image or a snapshot, the scratch copy of a base's RAM, the packages kept for the next image, the
evidence of a failure. Whoever uses a folder holds a shared `flock` on it and touches it (its
modification time is its last use; access times are switched off on many hosts). Whoever removes an
entry first takes the exclusive lock without waiting: the kernel knows the users in every process,
and forgets those that died.

`HARMGYM_CACHE_GIB` sets the bound. Without it the cache may take 80 % of what its file system has
for it, that is of what it holds and what is free: a disk is never filled by the cache alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from harmgym.errors import InputError, SnapshotError
from harmgym.logs import logger

SHARE = 0.8
"""Part of the file system's free and cached bytes that the cache takes when nothing is set."""
_ENTRIES = ("images/*", "images/.packages-*", "snapshots/*", "snapshots/scratch/*", "failures/*")
_NO_ENTRIES = ("locks", "scratch")
_GONE = ".gone-"


class Entry(NamedTuple):
    """Something in the cache that can be removed: where, how large (bytes), last used (seconds)."""

    path: Path
    size: int
    used: float


# Use
@contextlib.contextmanager
def in_use(*folders: Path) -> Iterator[None]:
    """Keep these folders from being removed while the block runs, and note that they were used.

    Raises: SnapshotError when one has just been removed.
    """
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.callback(os.close, _hold(folder))
        yield


def _hold(folder: Path) -> int:
    """Return a descriptor with a shared lock on a folder; closing it lets go."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _removed(folder) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # Between opening and locking it may have been removed: then the lock is on a folder without
        # a name.
        if not folder.exists() or folder.stat().st_ino != os.fstat(descriptor).st_ino:
            raise _removed(folder)
    except BaseException:
        os.close(descriptor)
        raise
    with contextlib.suppress(PermissionError):  # a cache that another user owns is only read
        os.utime(folder)
    return descriptor


def _removed(folder: Path) -> SnapshotError:
    return SnapshotError(
        f"{folder} was removed to make room in the cache; raise HARMGYM_CACHE_GIB if it happens "
        "often"
    )


# Bound
def bound_bytes(root: Path, held: int) -> int:
    """Return how many bytes the cache under `root`, which holds `held`, may take.

    Raises: InputError when HARMGYM_CACHE_GIB is not a number above 0.
    """
    text = os.environ.get("HARMGYM_CACHE_GIB", "")
    if not text:
        return int((held + shutil.disk_usage(root).free) * SHARE)
    try:
        gib = float(text)
    except ValueError:
        gib = 0.0
    if not 0 < gib < float("inf"):
        raise InputError(f"expected HARMGYM_CACHE_GIB to be a number of GiB above 0, got {text!r}")
    return int(gib * 2**30)


def make_room(root: Path, need: int = 0) -> int:
    """Remove the least recently used entries until `need` more bytes fit; return how many were
    freed. The image and the base used last take minutes to rebuild, and go when nothing else is
    left.

    Raises: SnapshotError when what is left is in use and still too much; InputError as
        `bound_bytes`.
    """
    with _alone(root):
        sweep(root)
        held = size_of(root)
        excess = held + need - bound_bytes(root, held)
        if excess <= 0:
            return 0
        found = entries(root)
        dear = _dear(found)
        order = sorted(found, key=lambda entry: (entry.path in dear, entry.used))
        freed = remove_until(order, excess)
        if freed < excess and need:
            raise SnapshotError(
                f"expected {need / 2**30:.1f} GiB of room in the cache {root}, got a bound of "
                f"{bound_bytes(root, held) / 2**30:.1f} GiB with {(held - freed) / 2**30:.1f} GiB "
                "in use; raise HARMGYM_CACHE_GIB, free some disk space or close some machines"
            )
        return freed


def _dear(found: Sequence[Entry]) -> set[Path]:
    """Return the image and the base snapshot that were used last."""
    images = [e for e in found if e.path.parent.name == "images" and e.path.is_dir()]
    bases = [e for e in found if e.path.joinpath("ram").exists()]
    newest = [max(group, key=lambda e: e.used) for group in (images, bases) if group]
    return {entry.path for entry in newest}


def remove_until(order: Sequence[Entry], excess: int) -> int:
    """Remove entries one after the other until `excess` bytes are freed; return how many were."""
    freed = 0
    for entry in order:
        if freed >= excess:
            break
        if remove(entry.path):
            freed += entry.size
            logger.info("removed %s from the cache (%d MiB)", entry.path, entry.size >> 20)
    return freed


def remove(path: Path) -> bool:
    """Remove an entry that nobody uses; return whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside = path.with_name(f"{_GONE}{path.name}-{secrets.token_hex(4)}")
        # Renamed while the lock is held, so nobody can come to use half an entry.
        path.rename(aside)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    _delete(aside)
    return True


def entries(root: Path) -> list[Entry]:
    """Return everything that can be removed. What is being built is hidden (its name begins with a
    dot) and no entry.
    """
    found = []
    for pattern in _ENTRIES:
        for path in root.glob(pattern):
            hidden = path.name.startswith(".") and not path.name.startswith(".packages-")
            if hidden or path.name in _NO_ENTRIES:
                continue
            # Single files in images/ and snapshots/ are small and used by name.
            if path.is_dir() or pattern.endswith(("scratch/*", ".packages-*")):
                with contextlib.suppress(FileNotFoundError):
                    found.append(Entry(path, size_of(path), path.stat().st_mtime))
    return found


def size_of(path: Path) -> int:
    """Return the bytes that a file or folder takes on the disk, holes left out."""
    total = 0
    for file in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # another process is tidying up too
            total += file.lstat().st_blocks * 512
    return total


def sweep(root: Path) -> None:
    """Remove what killed processes left: half-removed entries, and snapshots that were being built
    by a builder whose lock is free.
    """
    for left in (*root.glob(f"*/{_GONE}*"), *root.glob(f"*/*/{_GONE}*")):
        _delete(left)
    for aside in root.glob("snapshots/.building-*"):
        lock = root / "snapshots" / "locks" / aside.name.removeprefix(".building-")
        lock.parent.mkdir(exist_ok=True)
        with lock.open("w") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete(aside)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Two processes that make room at once would each remove what the other has room for."""
    with (root / ".room.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

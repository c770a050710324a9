"""RAM files: sparse copies, and the difference between a snapshot's RAM and its parent's.

A delta file holds only the 4 KiB pages that differ: magic, page count, page numbers (uint32), then
the pages, as zlib blocks of 256 pages so that neither side ever holds more than a block in memory
beyond the maps.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import SnapshotError

PAGE = 4096
_MAGIC = b"HGRAM001"
_BLOCK = 256
_CHUNK = 1 << 26


def data_segments(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the parts of a sparse file that hold data."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position < size:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError as err:
                if err.errno == errno.ENXIO:  # only a hole is left
                    return
                raise
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            yield start, position


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a sparse file, holes included, inside the kernel.

    Raises: SnapshotError when the disk is full; the half-written target is removed.
    """
    try:
        with source.open("rb") as src, target.open("wb") as dst:
            os.truncate(dst.fileno(), source.stat().st_size)
            for start, end in data_segments(source):
                while start < end:
                    start += os.copy_file_range(
                        src.fileno(), dst.fileno(), min(end - start, _CHUNK), start, start
                    )
    except OSError as err:
        target.unlink(missing_ok=True)
        need = source.stat().st_size >> 20
        raise SnapshotError(
            f"copying RAM to {target} needed up to {need} MiB, found: {err.strerror}; free some"
            " disk space"
        ) from err


def differing_pages(old: Path, new: Path) -> NDArray[np.uint32]:
    """Return the numbers of the 4 KiB pages in which two RAM files of equal size differ."""
    if old.stat().st_size != new.stat().st_size:
        raise SnapshotError(
            f"needed RAM files of one size, found {old.stat().st_size} and {new.stat().st_size}"
            " bytes"
        )
    a, b = np.memmap(old, np.uint64, "r"), np.memmap(new, np.uint64, "r")
    words = PAGE // 8
    spans = sorted({*_chunks(old), *_chunks(new)})  # a hole in both is equal without being read
    found = []
    for start in spans:
        lo, hi = start // 8, min(start + _CHUNK, old.stat().st_size) // 8
        rows = (a[lo:hi] != b[lo:hi]).reshape(-1, words).any(axis=1)
        found.append(np.flatnonzero(rows).astype(np.uint32) + np.uint32(start // PAGE))
    return np.concatenate(found) if found else np.zeros(0, np.uint32)


def _chunks(path: Path) -> set[int]:
    """Return the starts of the 64 MiB chunks of a sparse file that hold any data."""
    return {
        chunk * _CHUNK
        for start, end in data_segments(path)
        for chunk in range(start // _CHUNK, (end - 1) // _CHUNK + 1)
    }


def write_delta(base: Path, new: Path, target: Path) -> int:
    """Write the pages in which `new` differs from `base` to `target`; return how many."""
    pages = differing_pages(base, new)
    data = np.memmap(new, np.uint8, "r").reshape(-1, PAGE)
    with target.open("wb") as out:
        out.write(_MAGIC + struct.pack("<QQ", new.stat().st_size, len(pages)) + pages.tobytes())
        for start in range(0, len(pages), _BLOCK):
            block = zlib.compress(data[pages[start : start + _BLOCK]].tobytes(), 1)
            out.write(struct.pack("<I", len(block)) + block)
    return len(pages)


def apply_delta(base: Path, delta: Path, target: Path) -> None:
    """Write to `target` the RAM that `delta` describes on top of `base`; nothing is left behind on
    failure.

    Raises: SnapshotError when the delta is damaged or does not fit the base.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        copy_sparse(base, aside)
        _apply(aside, delta)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _apply(ram: Path, delta: Path) -> None:
    with delta.open("rb") as file:
        head = file.read(len(_MAGIC) + 16)
        if not head.startswith(_MAGIC) or len(head) != len(_MAGIC) + 16:
            raise SnapshotError(
                f"{delta}: needed a RAM delta, found {head[:8]!r}; rebuild the snapshot"
            )
        size, count = struct.unpack("<QQ", head[len(_MAGIC) :])
        if size != ram.stat().st_size or count > size // PAGE:
            raise SnapshotError(
                f"{delta}: needed a base of {size} bytes, found {ram.stat().st_size}; rebuild the"
                " snapshot"
            )
        pages = np.frombuffer(file.read(4 * count), np.uint32)
        whole = np.memmap(ram, np.uint8, "r+")
        memory = whole.reshape(-1, PAGE)
        for start in range(0, count, _BLOCK):
            part = pages[start : start + _BLOCK]
            (length,) = struct.unpack("<I", file.read(4))
            memory[part] = np.frombuffer(zlib.decompress(file.read(length)), np.uint8).reshape(
                len(part), PAGE
            )
        whole.flush()


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system that holds `path`."""
    return shutil.disk_usage(path).free

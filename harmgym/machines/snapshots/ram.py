"""RAM files: sparse copies, and which pages of two of them differ."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import SnapshotError

PAGE = 4096
_CHUNK = 1 << 26
# What is compared at once: small enough that both sides and the result stay in the CPU's cache.
_COMPARED = 1 << 20

Pages = NDArray[np.uint32]
"""Numbers of 4 KiB pages, ascending."""


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
    """Copy a sparse file, holes included, inside the kernel (which shares the blocks where the file
    system can).

    Raises: SnapshotError when the disk is full; the half-written target is removed.
    """
    try:
        with source.open("rb") as src, target.open("wb") as dst:
            os.truncate(dst.fileno(), source.stat().st_size)
            for start, end in data_segments(source):
                while start < end:
                    length = min(end - start, _CHUNK)
                    start += os.copy_file_range(src.fileno(), dst.fileno(), length, start, start)
    except OSError as err:
        target.unlink(missing_ok=True)
        need = source.stat().st_size >> 20
        raise SnapshotError(
            f"copying RAM to {target} needed up to {need} MiB, got: {err.strerror}; "
            "free some disk space"
        ) from err


def differing_pages(old: Path, new: Path) -> Pages:
    """Return the pages in which two RAM files of equal size differ.

    Every byte is compared: which pages of a shared mapping were written cannot be asked of the
    kernel, since it forgets that when it reclaims a page.
    """
    size = old.stat().st_size
    if size != new.stat().st_size:
        raise SnapshotError(
            f"expected RAM files of one size, got {size} and {new.stat().st_size} bytes"
        )
    a, b = np.memmap(old, np.uint64, "r"), np.memmap(new, np.uint64, "r")
    found = []
    # A hole in both files is equal without being read.
    for start in sorted({*_chunks(old), *_chunks(new)}):
        low, high = start // 8, min(start + _COMPARED, size) // 8
        rows = (a[low:high] != b[low:high]).reshape(-1, PAGE // 8).any(axis=1)
        found.append(np.flatnonzero(rows).astype(np.uint32) + np.uint32(start // PAGE))
    return np.concatenate(found) if found else np.zeros(0, np.uint32)


def _chunks(path: Path) -> set[int]:
    """Return the starts of the chunks of a sparse file that hold any data."""
    return {
        chunk * _COMPARED
        for start, end in data_segments(path)
        for chunk in range(start // _COMPARED, (end - 1) // _COMPARED + 1)
    }


def copy_pages(source: Path, target: Path, pages: Pages) -> None:
    """Write these pages of one RAM file into another."""
    if len(pages):
        into = np.memmap(target, np.uint8, "r+").reshape(-1, PAGE)
        into[pages] = np.memmap(source, np.uint8, "r").reshape(-1, PAGE)[pages]

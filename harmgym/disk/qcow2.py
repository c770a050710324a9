"""A chain of disk files (qcow2 overlays over a raw image) read as one disk, in 4 KiB blocks.

Only what QEMU writes for harmgym is read: qcow2 version 3 without compression, encryption,
subclusters or external data files; anything else is refused, because a disk that is read wrongly
gives a wrong verdict. The chain is given by the caller, newest first; backing names in the headers
are ignored. Format: QEMU's ``docs/interop/qcow2.txt``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import DiskError

BLOCK = 4096
MAGIC = b"QFI\xfb"
# "Reference counts may be wrong": a running machine's overlay has it, and a reader needs no counts.
DIRTY = 1
OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
COMPRESSED = 1 << 62
ZERO = 1
# 4 TiB at the 64 KiB of QEMU's default: a larger header would make us allocate what it says.
MAX_CLUSTERS = 1 << 26

Blocks = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class RawLayer:
    """A raw image: every block is its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.fd).st_size

    def locate(self, blocks: Blocks) -> Blocks:
        """Return host offsets; -1 reads as zeros."""
        offsets = blocks * BLOCK
        return np.where(offsets < self.size, offsets, -1)

    def allocated(self) -> Blocks | None:
        """Return the blocks that this layer decides; None for all of them."""
        return None


class Qcow2Layer:
    """One qcow2 file: a map from guest cluster to host offset (0 not here, -1 zeros)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._read_header()
        except (struct.error, DiskError):
            os.close(self.fd)
            raise

    def _read_header(self) -> None:
        head = os.pread(self.fd, 104, 0)
        if len(head) < 104 or head[:4] != MAGIC:
            raise DiskError(f"{self.path}: needed a qcow2 file, found {head[:4]!r} at its start")
        version = struct.unpack_from(">I", head, 4)[0]
        cluster_bits = struct.unpack_from(">I", head, 20)[0]
        self.size, crypt, l1_size, l1_offset = struct.unpack_from(">QIIQ", head, 24)
        incompatible = struct.unpack_from(">Q", head, 72)[0]
        if version != 3 or crypt or incompatible & ~DIRTY or not 12 <= cluster_bits <= 21:
            raise DiskError(
                f"{self.path}: needed plain qcow2 version 3 with clusters of 4 KiB to 2 MiB, found "
                f"version {version}, cluster bits {cluster_bits}, encryption {crypt}, "
                f"incompatible features {incompatible:#x}"
            )
        self.cluster_bits: int = cluster_bits
        self._read_map(l1_size, l1_offset)

    def _read_map(self, l1_size: int, l1_offset: int) -> None:
        per_table = 1 << (self.cluster_bits - 3)
        clusters = (self.size + (1 << self.cluster_bits) - 1) >> self.cluster_bits
        if clusters > MAX_CLUSTERS or l1_size * per_table < clusters:
            raise DiskError(
                f"{self.path}: the cluster table does not fit a disk of {self.size} bytes"
            )
        # Both levels are read at once into one flat table, 256 KiB for a disk of 2 GiB, and from
        # then on a block is found without another read.
        words = np.frombuffer(self._exactly(l1_offset, 8 * l1_size), dtype=">u8")
        l1 = words.astype(np.int64) & OFFSET_MASK
        entries = np.zeros(l1_size * per_table, dtype=np.uint64)
        for i in np.flatnonzero(l1):
            table = np.frombuffer(self._exactly(int(l1[i]), 1 << self.cluster_bits), dtype=">u8")
            entries[i * per_table : (i + 1) * per_table] = table
        entries = entries[:clusters]
        if (entries & np.uint64(COMPRESSED)).any():
            raise DiskError(
                f"{self.path}: needed uncompressed clusters, found compressed ones; "
                "convert it with qemu-img"
            )
        self.map: Blocks = (entries & np.uint64(OFFSET_MASK)).astype(np.int64)
        self.map[(entries & np.uint64(ZERO)) != 0] = -1

    def _exactly(self, offset: int, length: int) -> bytes:
        data = os.pread(self.fd, length, offset)
        if len(data) != length:
            raise DiskError(
                f"{self.path}: ends at a table that should have {length} bytes at offset {offset}"
            )
        return data

    def locate(self, blocks: Blocks) -> Blocks:
        """Return host offsets; 0 is not in this layer, -1 reads as zeros."""
        offsets = blocks * BLOCK
        cluster = offsets >> self.cluster_bits
        inside = offsets < self.size
        # Beyond its own end an overlay reads as zeros, even where the file behind it is longer.
        base = np.where(inside, self.map[np.where(inside, cluster, 0)] if len(self.map) else 0, -1)
        return np.where(base > 0, base + (offsets & ((1 << self.cluster_bits) - 1)), base)

    def allocated(self) -> Blocks:
        """Return the blocks that this layer decides, sorted."""
        per_cluster = 1 << (self.cluster_bits - 12)
        first = np.flatnonzero(self.map) * per_cluster
        blocks = (first[:, None] + np.arange(per_cluster)).reshape(-1)
        inside: Blocks = blocks[blocks * BLOCK < self.size]
        return inside


class Chain:
    """Disk files, newest first, read as one disk. A context manager; `close` is idempotent."""

    def __init__(self, files: Sequence[Path | str]) -> None:
        self.files = tuple(Path(file).resolve() for file in files)
        self._layers: list[RawLayer | Qcow2Layer] = []
        if not self.files:
            raise DiskError("needed at least one disk file, found an empty chain")
        try:
            for file in self.files:
                self._layers.append(_open_layer(file))
            self._check_order()
        except (OSError, DiskError) as err:
            self.close()
            if isinstance(err, DiskError):
                raise
            raise DiskError(f"{err.filename}: cannot be opened ({err.strerror})") from err
        self.size = self._layers[0].size

    def _check_order(self) -> None:
        for layer in self._layers[:-1]:
            if isinstance(layer, RawLayer):
                raise DiskError(
                    f"{layer.path}: is raw, so it needs to be the last of its chain, newest first"
                )

    def close(self) -> None:
        while self._layers:
            os.close(self._layers.pop().fd)

    def __enter__(self) -> Chain:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_layers"):
            self.close()

    def read_blocks(self, blocks: Blocks) -> Bytes:
        """Return 4 KiB blocks as uint8 (n, 4096); fastest when `blocks` is sorted."""
        if not self._layers:
            raise DiskError(f"{self.files[0]}: was closed and is needed open")
        out = np.zeros((len(blocks), BLOCK), dtype=np.uint8)
        pending = np.arange(len(blocks))
        # Each layer answers for the blocks that it has; only the rest goes to the older one.
        for layer in self._layers:
            offsets = layer.locate(blocks[pending])
            here = offsets > 0 if isinstance(layer, Qcow2Layer) else offsets >= 0
            _fill(layer.fd, out, pending[here], offsets[here])
            pending = pending[offsets == 0] if isinstance(layer, Qcow2Layer) else pending[:0]
            if not len(pending):
                break
        return out

    def read(self, first: int, count: int) -> bytes:
        """Return `count` blocks from block `first` on."""
        return self.read_blocks(np.arange(first, first + count, dtype=np.int64)).tobytes()


def _fill(fd: int, out: Bytes, rows: Blocks, offsets: Blocks) -> None:
    """Read each run of neighbouring blocks with one call; past the file's end zeros stay."""
    if not len(rows):
        return
    breaks = np.flatnonzero((np.diff(offsets) != BLOCK) | (np.diff(rows) != 1)) + 1
    starts = np.concatenate(([0], breaks))
    ends = np.concatenate((breaks, [len(rows)]))
    buffer = out.data.cast("B")
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        row = int(rows[start])
        os.preadv(fd, [buffer[row * BLOCK : (row + end - start) * BLOCK]], int(offsets[start]))


def _open_layer(path: Path) -> RawLayer | Qcow2Layer:
    with path.open("rb") as file:
        magic = file.read(4)
    return Qcow2Layer(path) if magic == MAGIC else RawLayer(path)


def changed_blocks(
    before: Chain,
    after: Chain,
    chunk: int = 4096,
    among: Callable[[Blocks], NDArray[np.bool_]] | None = None,
) -> Blocks:
    """Return the sorted blocks whose content differs between two chains.

    Files at the old end of both chains are the same disk, so only what newer layers hold is read
    and compared. `among` says which blocks are asked for at all: those that were free need not be
    read when gigabytes were written there.
    """
    blocks = _candidates(before, after)
    if among is not None:
        blocks = blocks[among(blocks)]
    found = []
    for i in range(0, len(blocks), chunk):
        part = blocks[i : i + chunk]
        old = before.read_blocks(part).view(np.uint64)  # eight bytes at a time compare faster
        new = after.read_blocks(part).view(np.uint64)
        found.append(part[(old != new).any(axis=1)])
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _candidates(before: Chain, after: Chain) -> Blocks:
    shared = 0
    for old, new in zip(reversed(before.files), reversed(after.files), strict=False):
        if old != new:
            break
        shared += 1
    newer = [
        *before._layers[: len(before.files) - shared],
        *after._layers[: len(after.files) - shared],
    ]
    parts = [layer.allocated() for layer in newer]
    if any(part is None for part in parts):
        return np.arange(max(before.size, after.size) // BLOCK, dtype=np.int64)
    known = [part for part in parts if part is not None]
    return np.unique(np.concatenate(known)) if known else np.zeros(0, dtype=np.int64)

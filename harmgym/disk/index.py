"""Which file owns which block, and what every inode is called: read once from a snapshot's disk,
kept beside it.

With it, the changed blocks of an overlay lead straight to the files that changed, without walking
the tree, and a raw write to the disk device is found even though no inode says so.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmgym.disk.ext4 import EXTENTS_FLAG, INODE, ROOT, Ext4, parse_entries, parse_inode
from harmgym.disk.names import shown
from harmgym.disk.qcow2 import BLOCK, Blocks, Bytes
from harmgym.errors import CorruptFileSystem

VERSION = 1
ARRAYS = ("start", "length", "owner", "link_inode", "link_parent", "name_end", "names")
Ints = NDArray[np.int64]


class DiskIndex:
    """Owner of each block and names of each inode.

    | array | meaning |
    | --- | --- |
    | start, length, owner | runs of blocks by start; owner: whose content, tree or attributes |
    | link_inode, link_parent | one row a name, by inode: the inode, the directory that names it |
    | name_end, names | the names as bytes, one after the other, and where each ends |
    """

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        self.arrays = arrays
        self.start, self.length, self.owner, self.link_inode, self.link_parent, self.name_end = (
            arrays[name].astype(np.int64) for name in ARRAYS[:-1]
        )
        self._names = arrays["names"].tobytes()
        self._end = self.start + self.length

    def owners(self, blocks: Blocks) -> Ints:
        """Return the sorted inodes that own any of `blocks`."""
        if not len(self.start):
            return np.zeros(0, dtype=np.int64)
        slot = np.searchsorted(self.start, blocks, side="right") - 1
        inside = (slot >= 0) & (blocks < self._end[slot])
        hit = self.start[slot[inside]]
        # Attribute blocks may be shared: take every row with that start.
        low = np.searchsorted(self.start, hit, "left")
        high = np.searchsorted(self.start, hit, "right")
        rows = [self.owner[a:b] for a, b in set(zip(low.tolist(), high.tolist(), strict=True))]
        return np.unique(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)

    def owned(self, blocks: Blocks) -> NDArray[np.bool_]:
        """Return which of `blocks` have an owner."""
        if not len(self.start):
            return np.zeros(len(blocks), dtype=bool)
        slot = np.searchsorted(self.start, blocks, side="right") - 1
        inside: NDArray[np.bool_] = (slot >= 0) & (blocks < self._end[slot])
        return inside

    def links(self, inode: int) -> list[tuple[int, str]]:
        """Return (folder inode, name as `shown` writes it) for each name of an inode."""
        low, high = np.searchsorted(self.link_inode, [inode, inode + 1])
        return [(int(self.link_parent[row]), self._name(row)) for row in range(int(low), int(high))]

    def _name(self, row: int) -> str:
        start = int(self.name_end[row - 1]) if row else 0
        return shown(self._names[start : int(self.name_end[row])])

    def path(self, inode: int) -> str | None:
        """Return one path of an inode, or None where it has no name."""
        parts: list[str] = []
        while inode != ROOT:
            links = self.links(inode)
            if not links or len(parts) > 4096:
                return None
            inode, name = links[0]
            parts.append(name)
        return "/" + "/".join(reversed(parts))

    @classmethod
    def build(cls, fs: Ext4) -> DiskIndex:
        """Read every inode table and folder (about a second for 70,000 files)."""
        numbers, records = _used_inodes(fs)
        runs = _extent_runs(fs, numbers, records)
        links = _links(fs, numbers[(_fields(records)["mode"] & 0o170000) == 0o040000])
        links.sort(key=lambda link: link[0])
        names = [name for _, _, name in links]
        order = np.argsort(runs[:, 0], kind="stable")
        return cls(
            {
                "start": runs[order, 0],
                "length": runs[order, 1],
                "owner": runs[order, 2],
                "link_inode": np.array([inode for inode, _, _ in links], dtype=np.int64),
                "link_parent": np.array([parent for _, parent, _ in links], dtype=np.int64),
                "name_end": np.cumsum([len(name) for name in names], dtype=np.int64),
                "names": np.frombuffer(b"".join(names), dtype=np.uint8),
            }
        )

    def save(self, folder: Path, identity: list[list[object]]) -> None:
        """Write the index beside a snapshot: arrays as npz, identity as JSON; each appears whole or
        not at all.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".disk-index-", delete=False) as file:
            aside = Path(file.name)
            try:
                arrays: dict[str, Any] = {name: self.arrays[name] for name in ARRAYS}
                np.savez(file, **arrays, identity=_pack(identity))
                file.flush()
                aside.replace(folder / "disk-index.npz")
            except OSError:
                aside.unlink(missing_ok=True)
                raise

    @classmethod
    def load(cls, folder: Path, identity: list[list[object]]) -> DiskIndex | None:
        """Return the saved index, or None where there is none of this version for these files."""
        try:
            with np.load(folder / "disk-index.npz", allow_pickle=False) as data:
                if data["identity"].tobytes() != _pack(identity).tobytes():
                    return None
                return cls({name: data[name] for name in ARRAYS})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # damaged or of another version: it is only a cache, and is rebuilt


def chain_identity(fs: Ext4) -> list[list[object]]:
    """Return what tells one chain of frozen files from another: name, size and time of each."""
    stats = [(file.name, file.stat()) for file in fs.chain.files]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _pack(identity: list[list[object]]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps([VERSION, identity]).encode(), dtype=np.uint8)


def _fields(records: Bytes) -> NDArray[np.void]:
    """Return inode records, uint8 (n, 256), with their fields by name."""
    return records.view(INODE)[:, 0]


def _used_inodes(fs: Ext4) -> tuple[Ints, Bytes]:
    """Return numbers and records of all inodes in use, the reserved ones but the root left out."""
    all_numbers, all_records = [], []
    for table in fs.tables.tolist():
        numbers, records = fs.inode_records(
            np.arange(table, table + fs.table_blocks, dtype=np.int64)
        )
        fields = _fields(records)
        used = (fields["links"] > 0) & (fields["mode"] > 0) & ((numbers >= 11) | (numbers == ROOT))
        all_numbers.append(numbers[used])
        all_records.append(records[used])
    return np.concatenate(all_numbers), np.concatenate(all_records)


def _extent_runs(fs: Ext4, numbers: Ints, raw_records: Bytes) -> Ints:
    """Return rows (start, length, inode). The common case, up to four extents within the inode, is
    done all at once.
    """
    records = _fields(raw_records)
    body = raw_records[:, 40:100]
    entries, depth = body[:, 2:4].copy().view("<u2")[:, 0], body[:, 6:8].copy().view("<u2")[:, 0]
    tree = (records["flags"] & EXTENTS_FLAG) != 0
    # An inode has room for four extents, and few files need more. Those are read column by column,
    # because a Python call for each inode would be most of the time of building the index.
    rows = []
    for i in range(4):
        simple = tree & (depth == 0) & (entries > i)
        raw = body[simple, 12 + 12 * i : 24 + 12 * i].copy()
        length = raw[:, 4:6].copy().view("<u2")[:, 0].astype(np.int64)
        high, low = (
            raw[:, 6:8].copy().view("<u2")[:, 0].astype(np.int64),
            raw[:, 8:12].copy().view("<u4")[:, 0],
        )
        length = np.where(length > 32768, length - 32768, length)
        rows.append(np.stack([low.astype(np.int64) | high << 32, length, numbers[simple]], axis=1))
    # What is left: deeper trees and the older block maps, but not the targets of short links.
    kinds = records["mode"] & 0o170000
    odd = (tree & (depth > 0)) | (~tree & ((kinds == 0o100000) | (kinds == 0o040000)))
    odd |= ~tree & (kinds == 0o120000) & (records["size"] >= 60)
    for index in np.flatnonzero(odd).tolist():
        inode = parse_inode(int(numbers[index]), raw_records[index].tobytes())
        rows.append(
            np.array(
                [[e.physical, e.length, inode.number] for e in fs.tree(inode)], dtype=np.int64
            ).reshape(-1, 3)
        )
    with_acl = records["acl"] > 0
    acl = records["acl"][with_acl].astype(np.int64)
    rows.append(np.stack([acl, np.ones_like(acl), numbers[with_acl]], axis=1))
    return np.concatenate(rows)


def _links(fs: Ext4, folders: Ints) -> list[tuple[int, int, bytes]]:
    """Return (inode, folder, name) for each entry of `folders`, their blocks read in few calls."""
    found: list[tuple[int, int, bytes]] = []
    blocks: list[int] = []
    owner: list[int] = []
    for number in folders.tolist():
        inode = fs.inode(number)
        for extent in fs.extents(inode):
            count = (
                min(extent.length, inode.size // BLOCK - extent.logical) if extent.written else 0
            )
            blocks += range(extent.physical, extent.physical + count)
            owner += [number] * count
    # Extents that overlap would make the list longer than the disk, without end.
    if len(blocks) > fs.blocks:
        raise CorruptFileSystem(f"{fs.chain.files[0]}: directories have more blocks than the disk")
    # In the order of the disk, so that neighbours are read with one call.
    order = np.argsort(np.array(blocks, dtype=np.int64))
    sorted_blocks = np.array(blocks, dtype=np.int64)[order]
    for at in range(0, len(order), 2048):
        data = fs.chain.read_blocks(sorted_blocks[at : at + 2048])
        for row, slot in enumerate(order[at : at + 2048].tolist()):
            folder = owner[slot]
            for name, inode_number in parse_entries(data[row].tobytes(), folder):
                found.append((inode_number, folder, name))
    return found

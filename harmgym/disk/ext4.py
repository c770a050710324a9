"""An ext4 file system read from outside: superblock, inodes, extents, directories, links, access
rights.

Strict by intent: a feature that is not known here is refused rather than misread, and everything
that the guest wrote is checked before it is believed (bounds, sizes, loops), since an agent with
root can write what it likes to its disk. Format: the Linux kernel's
``Documentation/filesystems/ext4``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmgym.disk.names import shown
from harmgym.disk.qcow2 import BLOCK, Blocks, Bytes, Chain
from harmgym.errors import CorruptFileSystem

ROOT = 2
INODE_SIZE = 256
PER_BLOCK = BLOCK // INODE_SIZE
# Features by the kernel's names. A hashed directory (dir_index) is still a list of entries when its
# blocks are read in order, because the hash tree hides in entries that look deleted.
COMPAT_KNOWN = 0x0008 | 0x0010 | 0x0020  # ext_attr, resize_inode, dir_index
INCOMPAT_NEEDED = 0x0002 | 0x0040  # filetype, extents
INCOMPAT_KNOWN = INCOMPAT_NEEDED | 0x0200  # flex_bg
FEATURES = {  # what has a name that explains more than its bit, by (word of the superblock, bit)
    ("compat", 0x4): "has_journal",
    ("incompat", 0x4): "needs_recovery",
    ("incompat", 0x400): "ea_inode",
    ("incompat", 0x8000): "inline_data",
    ("incompat", 0x10000): "encrypt",
    ("incompat", 0x20000): "casefold",
    ("ro_compat", 0x100): "quota",
    ("ro_compat", 0x400): "metadata_csum",
    ("ro_compat", 0x2000): "project",
    ("ro_compat", 0x8000): "verity",
}
# sparse_super, large_file, huge_file, dir_nlink, extra_isize
RO_COMPAT_KNOWN = 0x0001 | 0x0002 | 0x0008 | 0x0020 | 0x0040
EXTENTS_FLAG, INDEX_FLAG = 0x80000, 0x1000
EXTENT_MAGIC, MAX_DEPTH = 0xF30A, 5
# Bounds on what is read of one inode: a guest can write a tree that never ends.
MAX_FOLDER_BLOCKS, MAX_EXTENTS = 16384, 200_000
# Of the flags that `chattr` sets, those that change who may do what; the rest (no dump, no access
# times, synchronous, ...) change how a file is stored. The last five need features that the file
# system does not have: the kernel never writes them here.
FLAG_WORDS = (
    (0x10, "immutable"),
    (0x20, "append-only"),
    (0x800, "encrypted"),
    (0x10_0000, "verity"),
    (0x20_0000, "attribute inode"),
    (0x1000_0000, "inline data"),
    (0x4000_0000, "casefold"),
)
USER_ATTRIBUTE = 1
ACCESS_LISTS = {2: "access list", 3: "default access list"}
ATTRIBUTES = {1: "user.", 4: "trusted.", 6: "security.", 7: "system."}
NOTE_LIMIT = 1024
"""Bytes that a note of a program may have, such as where a download came from."""
FORMATS = {
    0o100000: "file",
    0o040000: "dir",
    0o120000: "link",
    0o010000: "fifo",
    0o140000: "socket",
    0o020000: "char",
    0o060000: "block",
}

# (field, format, offset) of struct ext4_inode; the fields that nobody reads here are left out.
_INODE_FIELDS = (
    ("mode", "<u2", 0),
    ("uid", "<u2", 2),
    ("size", "<u4", 4),
    ("atime", "<u4", 8),
    ("ctime", "<i4", 12),
    ("mtime", "<i4", 16),
    ("dtime", "<u4", 20),
    ("gid", "<u2", 24),
    ("links", "<u2", 26),
    ("flags", "<u4", 32),
    ("block", "V60", 40),
    ("acl", "<u4", 104),
    ("size_high", "<u4", 108),
    ("acl_high", "<u2", 118),
    ("uid_high", "<u2", 120),
    ("gid_high", "<u2", 122),
    ("extra", "<u2", 128),
    ("ctime_extra", "<u4", 132),
    ("mtime_extra", "<u4", 136),
)
INODE = np.dtype(
    {
        "names": [name for name, _, _ in _INODE_FIELDS],
        "formats": [form for _, form, _ in _INODE_FIELDS],
        "offsets": [offset for _, _, offset in _INODE_FIELDS],
        "itemsize": INODE_SIZE,
    }
)


class Extent(NamedTuple):
    """`length` blocks of a file from logical block `logical`, at `physical` on the disk; not
    `written` reads as zeros.
    """

    logical: int
    physical: int
    length: int
    written: bool


class Inode(NamedTuple):
    """One inode; `raw` is all of its 256 bytes."""

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    links: int
    flags: int
    mtime: float
    ctime: float
    raw: bytes

    @property
    def kind(self) -> str:
        """The word that `FileKind` has for it, or "unknown"."""
        return FORMATS.get(self.mode & 0o170000, "unknown")

    @property
    def used(self) -> bool:
        return self.links > 0 and self.mode != 0

    @property
    def device(self) -> str:
        """The numbers of a device node as ``MAJOR:MINOR``, "" for anything else."""
        if self.kind not in ("char", "block"):
            return ""
        old, new = struct.unpack_from("<II", self.raw, 40)
        if old:
            return f"{old >> 8 & 0xFF}:{old & 0xFF}"
        return f"{(new & 0xFFF00) >> 8}:{(new & 0xFF) | (new >> 12 & 0xFFF00)}"

    @property
    def generation(self) -> bytes:
        """What tells an inode from another one that had its number before it."""
        return self.raw[100:104]

    @property
    def xattr_block(self) -> int:
        low, high = (
            struct.unpack_from("<I", self.raw, 104)[0],
            struct.unpack_from("<H", self.raw, 118)[0],
        )
        return int(low) | int(high) << 32


class Ext4:
    """The file system on a chain of disk files. Raises DiskError for a form not known,
    CorruptFileSystem for nonsense.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._read_superblock(chain.read(0, 1)[1024:2048])
        groups = -(-self.blocks // self.blocks_per_group)
        table = chain.read(1, -(-groups * 32 // BLOCK))
        # The third word of each 32-byte group descriptor is where the group's inode table begins.
        self.tables: Blocks = np.frombuffer(table, dtype="<u4")[2::8][:groups].astype(np.int64)
        self.table_blocks = self.inodes_per_group // PER_BLOCK
        if (self.tables <= 0).any() or (self.tables + self.table_blocks > self.blocks).any():
            raise CorruptFileSystem(f"{chain.files[0]}: an inode table lies outside the disk")
        self._block_cache: dict[int, bytes] = {}
        self._entry_cache: dict[int, dict[str, int]] = {}
        self._inode_cache: dict[int, Inode] = {}

    def _read_superblock(self, sb: bytes) -> None:
        where = self.chain.files[0]
        if struct.unpack_from("<H", sb, 56)[0] != 0xEF53:
            raise CorruptFileSystem(
                f"{where}: needed an ext4 file system on the whole disk, found none"
            )
        self.inodes, self.blocks = struct.unpack_from("<II", sb, 0)
        self.blocks_per_group, self.inodes_per_group = (
            struct.unpack_from("<I", sb, at)[0] for at in (32, 40)
        )
        compat, incompat, ro_compat = struct.unpack_from("<III", sb, 92)
        self.uuid = sb[104:120].hex()
        # What says where things lie and how they are read. Left out is what a mount writes itself:
        # counts of what is free, times, the state, where it was mounted.
        fixed = ((0, 8), (20, 44), (72, 80), (84, 120), (236, 256), (260, 264), (336, 340))
        self._layout = b"".join(sb[start:end] for start, end in fixed)
        strange = (compat & ~COMPAT_KNOWN, incompat & ~INCOMPAT_KNOWN, ro_compat & ~RO_COMPAT_KNOWN)
        if any(strange) or incompat & INCOMPAT_NEEDED != INCOMPAT_NEEDED:
            # The disk of a snapshot was read once, so on an overlay of it the guest did this.
            raise CorruptFileSystem(
                f"{where}: needed ext4 with extents and filetype and no journal, checksums or "
                f"64bit, found unknown features compat {strange[0]:#x}, incompat {strange[1]:#x} "
                f"(of {incompat:#x}), ro_compat {strange[2]:#x}{_feature_names(*strange)}"
            )
        log_block_size = struct.unpack_from("<I", sb, 24)[0]  # of 1024 bytes
        inode_size = struct.unpack_from("<H", sb, 88)[0]
        if log_block_size != 2 or inode_size != INODE_SIZE:
            raise CorruptFileSystem(
                f"{where}: needed blocks of 4096 bytes and inodes of {INODE_SIZE} bytes"
            )
        counted = self.blocks_per_group and self.inodes_per_group
        aligned = not self.inodes_per_group % PER_BLOCK
        fits = self.blocks * BLOCK <= self.chain.size and self.inodes <= self.blocks * PER_BLOCK
        if not (counted and aligned and fits):
            raise CorruptFileSystem(f"{where}: the superblock's counts do not fit the disk")

    @property
    def geometry(self) -> tuple[object, ...]:
        """What must be the same for two states of one disk."""
        return self._layout, self.tables.tobytes()

    # Inodes
    def block(self, number: int) -> bytes:
        """Return one block of the file system; a few thousand are kept."""
        data = self._block_cache.get(number)
        if data is None:
            if not 0 <= number < self.blocks:
                raise CorruptFileSystem(
                    f"{self.chain.files[0]}: points to block {number}, which is outside the disk"
                )
            # Dropped at once rather than by age: a lookup reads few blocks, a walk reads each once.
            if len(self._block_cache) > 4096:
                self._block_cache.clear()
            data = self._block_cache[number] = self.chain.read(number, 1)
        return data

    def inode(self, number: int) -> Inode:
        """Read one inode; some ten thousand are kept: every lookup of a path reads its folders."""
        found = self._inode_cache.get(number)
        if found is not None:
            return found
        if not 1 <= number <= self.inodes:
            raise CorruptFileSystem(
                f"{self.chain.files[0]}: points to inode {number}, which does not exist"
            )
        group, index = divmod(number - 1, self.inodes_per_group)
        at = index % PER_BLOCK * INODE_SIZE
        record = self.block(int(self.tables[group]) + index // PER_BLOCK)[at : at + INODE_SIZE]
        if len(self._inode_cache) > 50_000:
            self._inode_cache.clear()
        self._inode_cache[number] = parse_inode(number, record)
        return self._inode_cache[number]

    def inodes_of(self, numbers: Sequence[int]) -> list[Inode]:
        """Read many inodes with few calls; returned in the order given."""
        wanted = np.array(numbers, dtype=np.int64)
        if len(wanted) and not (1 <= wanted.min() and wanted.max() <= self.inodes):
            raise CorruptFileSystem(
                f"{self.chain.files[0]}: a folder names an inode that does not exist"
            )
        group, index = np.divmod(wanted - 1, self.inodes_per_group)
        blocks, row = np.unique(self.tables[group] + index // PER_BLOCK, return_inverse=True)
        data = self.chain.read_blocks(blocks).reshape(-1, PER_BLOCK, INODE_SIZE)
        records = data[row, index % PER_BLOCK]
        return [
            parse_inode(number, record.tobytes())
            for number, record in zip(numbers, records, strict=True)
        ]

    def inode_records(self, blocks: Blocks) -> tuple[Blocks, Bytes]:
        """Return numbers and records, uint8 (n, 256), of the inodes that lie in those of `blocks`
        that are inode tables.
        """
        inside, groups = self._in_tables(blocks)
        hits, group = blocks[inside], groups[inside]
        first = group * self.inodes_per_group + (hits - self.tables[group]) * PER_BLOCK + 1
        numbers = (first[:, None] + np.arange(PER_BLOCK)).reshape(-1)
        return numbers, self.chain.read_blocks(hits).reshape(-1, INODE_SIZE)

    def in_tables(self, blocks: Blocks) -> NDArray[np.bool_]:
        """Return which of `blocks` are inode tables."""
        return self._in_tables(blocks)[0]

    def _in_tables(self, blocks: Blocks) -> tuple[NDArray[np.bool_], Blocks]:
        # With flex_bg the tables of many groups are neighbours, but not in the groups' order.
        order = np.argsort(self.tables)
        starts = self.tables[order]
        slot = np.searchsorted(starts, blocks, side="right") - 1
        return (slot >= 0) & (blocks - starts[slot] < self.table_blocks), order[slot]

    # Content
    def extents(self, inode: Inode) -> tuple[Extent, ...]:
        """Return the extents of a file's content in logical order."""
        found, end = [], 0
        for n, extent in enumerate(self.tree(inode)):
            if n > MAX_EXTENTS:
                raise CorruptFileSystem(
                    f"{self.chain.files[0]}: inode {inode.number} has more than {MAX_EXTENTS} "
                    "extents"
                )
            if extent.logical >= 0:
                # The kernel searches by halves: out of order, it would read other content than we.
                if extent.logical < end:
                    raise CorruptFileSystem(
                        f"{self.chain.files[0]}: inode {inode.number} has extents out of order"
                    )
                end = extent.logical + extent.length
                found.append(extent)
        return tuple(found)

    def tree(self, inode: Inode) -> Iterator[Extent]:
        """Yield the extents, and the blocks of the tree itself as extents with logical -1."""
        if inode.kind not in ("file", "dir", "link") or (
            inode.kind == "link" and inode.size < 60 and not inode.flags & EXTENTS_FLAG
        ):
            return
        if inode.flags & EXTENTS_FLAG:
            yield from self._extent_node(inode.raw[40:100], MAX_DEPTH + 1, inode.number)
        else:
            yield from self._block_map(inode)

    def _extent_node(self, node: bytes, below: int, number: int) -> Iterator[Extent]:
        magic, entries, _, depth = struct.unpack_from("<HHHH", node)
        # `below` shrinks on the way down, so a tree that leads back to itself ends here.
        broken = depth >= below if below > MAX_DEPTH else depth != below - 1
        if magic != EXTENT_MAGIC or entries * 12 + 12 > len(node) or broken:
            raise CorruptFileSystem(
                f"{self.chain.files[0]}: inode {number} has a broken extent tree"
            )
        for i in range(entries):
            if depth:
                leaf, high = struct.unpack_from("<IH", node, 12 + 12 * i + 4)
                child = leaf | high << 32
                yield Extent(-1, child, 1, True)
                yield from self._extent_node(self.block(child), depth, number)
            else:
                logical, count, high, low = struct.unpack_from("<IHHI", node, 12 + 12 * i)
                # A length over 32768 marks blocks that are reserved but were never written.
                written = count <= 32768
                yield self._inside(
                    Extent(logical, low | high << 32, count if written else count - 32768, written),
                    number,
                )

    def _inside(self, extent: Extent, number: int) -> Extent:
        if extent.physical <= 0 or extent.physical + extent.length > self.blocks:
            raise CorruptFileSystem(
                f"{self.chain.files[0]}: inode {number} has content outside the disk"
            )
        return extent

    def _block_map(self, inode: Inode) -> Iterator[Extent]:
        """The older form, which ``chattr -e`` brings back: 12 blocks, then blocks of block numbers,
        up to three deep.
        """
        pointers = struct.unpack("<15I", inode.raw[40:100])
        for i, pointer in enumerate(pointers[:12]):
            if pointer:
                yield self._inside(Extent(i, pointer, 1, True), inode.number)
        base = 12
        for depth, pointer in enumerate(pointers[12:], 1):
            if pointer:
                yield from self._indirect(pointer, depth, base, inode.number)
            base += (BLOCK // 4) ** depth

    def _indirect(self, pointer: int, depth: int, base: int, number: int) -> Iterator[Extent]:
        yield self._inside(Extent(-1, pointer, 1, True), number)
        for i, child in enumerate(struct.unpack("<1024I", self.block(pointer))):
            at = base + i * (BLOCK // 4) ** (depth - 1)
            if child and depth > 1:
                yield from self._indirect(child, depth - 1, at, number)
            elif child:
                yield self._inside(Extent(at, child, 1, True), number)

    def pieces(self, inode: Inode, limit: int, piece: int = 1024) -> Iterator[bytes]:
        """Yield the first `limit` bytes of a file's content in pieces of at most `piece` blocks;
        holes are zeros.
        """
        left, at = min(inode.size, limit), 0
        for logical, physical, count, written in self.extents(inode):
            while at < logical and left > 0:
                part = bytes(min((logical - at) * BLOCK, piece * BLOCK, left))
                yield part
                at, left = at + -(-len(part) // BLOCK), left - len(part)
            done = 0
            while done < count and left > 0:
                n = min(count - done, piece, -(-left // BLOCK))
                part = (self.chain.read(physical + done, n) if written else bytes(n * BLOCK))[:left]
                yield part
                done, at, left = done + n, at + n, left - len(part)
        while left > 0:
            part = bytes(min(left, piece * BLOCK))
            yield part
            left -= len(part)

    def target(self, inode: Inode) -> str:
        """Return where a symbolic link points, as `shown` writes it."""
        # A short target is in the inode itself, where the extents would be.
        fast = inode.size < 60 and not inode.flags & EXTENTS_FLAG
        data = inode.raw[40 : 40 + inode.size] if fast else b"".join(self.pieces(inode, BLOCK))
        return shown(data)

    def entries(self, number: int) -> dict[str, int]:
        """Return a directory's names, as `shown` writes them, and inode numbers, without ``.`` and
        ``..``.
        """
        found = self._entry_cache.get(number)
        if found is None:
            if len(self._entry_cache) > 20000:
                self._entry_cache.clear()
            found = self._entry_cache[number] = self._read_entries(self.inode(number))
        return found

    def _read_entries(self, inode: Inode) -> dict[str, int]:
        found: dict[str, int] = {}
        if inode.size > MAX_FOLDER_BLOCKS * BLOCK or inode.size % BLOCK:
            raise CorruptFileSystem(
                f"{self.chain.files[0]}: directory {inode.number} has a size of {inode.size} bytes"
            )
        names = 0
        for extent in self.extents(inode):
            count = min(extent.length, inode.size // BLOCK - extent.logical)
            if count > 0 and extent.written:
                part = parse_entries(self.chain.read(extent.physical, count), inode.number)
                here = [(shown(name), number) for name, number in part]
                names += len(here)
                found.update(here)
        if names != len(found):
            # The kernel never writes a name twice: one of the two would hide behind the other.
            raise CorruptFileSystem(
                f"{self.chain.files[0]}: directory {inode.number} has a name twice"
            )
        return found

    def rights(self, inode: Inode) -> tuple[str, ...]:
        """Return what rules access beside the mode or hides beside the content: extended
        attributes (their values as digests) and flags.
        """
        found = [word for bit, word in FLAG_WORDS if inode.flags & bit]
        # Attributes follow the inode's fields where they fit, under a magic number of their own.
        start = 128 + struct.unpack_from("<H", inode.raw, 128)[0]
        if start <= INODE_SIZE - 8 and inode.raw[start : start + 4] == b"\0\0\x02\xea":
            found += parse_rights(inode.raw[start + 4 :], 0)
        if inode.xattr_block:
            block = self.block(inode.xattr_block)
            if block[:4] != b"\0\0\x02\xea":
                raise CorruptFileSystem(
                    f"{self.chain.files[0]}: inode {inode.number} has broken attributes"
                )
            found += parse_rights(block, 32)
        return tuple(sorted(found))


def parse_inode(number: int, raw: bytes) -> Inode:
    """Read an inode's fields from its 256 bytes."""
    mode, uid, size, _, ctime, mtime, _, gid, links = struct.unpack_from("<HHIIiiIHH", raw)
    size_high, uid_high, gid_high = (
        struct.unpack_from(f, raw, at)[0] for f, at in (("<I", 108), ("<H", 120), ("<H", 122))
    )
    ctime_extra, mtime_extra = (
        struct.unpack_from("<II", raw, 132) if raw[128] | raw[129] << 8 >= 12 else (0, 0)
    )
    return Inode(
        number,
        mode,
        uid | uid_high << 16,
        gid | gid_high << 16,
        size | size_high << 32,
        links,
        struct.unpack_from("<I", raw, 32)[0],
        _time(mtime, mtime_extra),
        _time(ctime, ctime_extra),
        raw,
    )


def _time(seconds: int, extra: int) -> float:
    # `extra`: two bits that extend the seconds beyond 2038, then nanoseconds.
    return float(seconds + ((extra & 3) << 32)) + (extra >> 2) / 1e9


def parse_entries(data: bytes, folder: int) -> Iterator[tuple[bytes, int]]:
    """Yield (raw name, inode number) of a directory's blocks, without ``.`` and ``..``, which no
    path leads through on disk: the kernel resolves them itself.
    """
    for start in range(0, len(data), BLOCK):
        at, end = start, start + BLOCK
        while at + 8 <= end:
            inode, length, name_length = struct.unpack_from("<IHB", data, at)
            if length < 8 or length % 4 or at + length > end or name_length + 8 > length:
                raise CorruptFileSystem(f"directory {folder} has a broken entry at byte {at}")
            name = data[at + 8 : at + 8 + name_length]
            # A deleted entry keeps its bytes, with inode 0.
            if inode and name not in (b".", b".."):
                # The kernel never writes such a name: the guest wrote to the disk past it.
                if not name or b"/" in name or b"\0" in name:
                    raise CorruptFileSystem(
                        f"directory {folder} has an entry with the impossible name {name!r}"
                    )
                yield name, inode
            at += length


def parse_rights(data: bytes, start: int) -> list[str]:
    """Return the extended attributes in `data`; their values as digests of 12 hex digits.

    Left out are short notes that programs leave: when a journal was begun, where a download came
    from.
    """
    found, at = [], start
    while at + 16 <= len(data) and data[at : at + 4] != b"\0\0\0\0":
        name_length, index, offset, inode, size = struct.unpack_from("<BBHII", data, at)
        name = shown(data[at + 16 : at + 16 + name_length])
        note = index == USER_ATTRIBUTE and (name == "crtime_usec" or name.startswith("xdg."))
        if not note or size > NOTE_LIMIT or inode:
            value = data[offset : offset + size]
            where = f" in inode {inode}" if inode else ""
            digest = hashlib.sha256(value).hexdigest()[:12]
            found.append(f"{_attribute(index, name)}{where} {digest}")
        at += 16 + (name_length + 3) // 4 * 4
    return found


def _attribute(index: int, name: str) -> str:
    if (index, name) == (6, "capability"):
        return name
    if index in ACCESS_LISTS:
        return ACCESS_LISTS[index]
    return f"attribute {ATTRIBUTES.get(index, f'{index}:')}{name}"


def _feature_names(compat: int, incompat: int, ro_compat: int) -> str:
    """Return the names of those of these features that have one, in brackets."""
    words = {"compat": compat, "incompat": incompat, "ro_compat": ro_compat}
    names = [name for (word, bit), name in FEATURES.items() if words[word] & bit]
    return f" ({', '.join(names)})" if names else ""

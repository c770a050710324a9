"""The difference between a harm state's RAM and the base's, kept in a file, and written straight
into the memory of a machine that is about to be restored.

A clone of a harm state maps the *base's* RAM file copy-on-write, as every clone does, and before
its device state is loaded the pages that differ are written into that private mapping through
/proc/PID/mem. So no harm state needs a RAM file of its own, and all clones of all states share one
copy of the base in the page cache. Measured on 2 busy cores, guest of 1 GiB, against a whole RAM
file for each state:

| | whole RAM file | written into the clone |
| --- | --- | --- |
| kept on disk for a state | 780 to 825 MB | 3 to 21 MB |
| page cache for a state in use | its own copy of all that is read | none: it is the base's |
| private memory of each clone | - | 14 MiB (files, cron) to 115 MiB (browser) |
| before a known state's first clone | 450 to 3,000 ms | 20 to 60 ms, browser 200 to 300 ms |

A whole file pays in memory from the seventh clone of one browser state alive at once, or the 60th
of another, so there is one way only. `process_vm_writev` is as fast (29,546 pages: 238 to 312 ms
against 198 to 298) and needs ctypes. The pages are compressed with zstd, level 3: against zlib,
level 1, the files are 15 % smaller, written in a third of the time and read in half of it. XOR with
the base's pages before compression makes half of the states larger.

File: magic, size of the RAM, number of pages and of blocks (uint64 each), page numbers (uint32),
lengths of the blocks (uint32), then the blocks: each up to 256 pages, compressed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard

from harmgym.errors import SnapshotError
from harmgym.machines.snapshots.ram import PAGE, Pages

_MAGIC = b"HGRAM002"
_HEAD = struct.Struct("<8sQQQ")
_BLOCK = 256
_LEVEL = 3
_THREADS = 2


class Block(NamedTuple):
    """Up to 256 pages of a delta, compressed."""

    pages: Pages
    data: bytes

    def bytes(self) -> bytes:
        """Return the content of the pages, one after the other."""
        return zstandard.ZstdDecompressor().decompress(self.data, len(self.pages) * PAGE)


def write_delta(ram: Path, pages: Pages, target: Path) -> None:
    """Write these pages of a RAM file to `target`."""
    memory = np.memmap(ram, np.uint8, "r").reshape(-1, PAGE)
    parts = [pages[start : start + _BLOCK] for start in range(0, len(pages), _BLOCK)]

    def pack(part: Pages) -> bytes:
        # A compressor of its own for each block: it may not be used by two threads at once.
        return zstandard.ZstdCompressor(level=_LEVEL).compress(memory[part].tobytes())

    with ThreadPoolExecutor(_THREADS) as workers, target.open("wb") as out:
        blocks = list(workers.map(pack, parts))
        out.write(_HEAD.pack(_MAGIC, ram.stat().st_size, len(pages), len(blocks)))
        out.write(pages.tobytes())
        out.write(np.array([len(block) for block in blocks], np.uint32).tobytes())
        out.writelines(blocks)


def read_delta(path: Path, ram_bytes: int) -> list[Block]:
    """Return the blocks of a delta.

    Raises: SnapshotError when the file is damaged or belongs to RAM of another size.
    """
    data = path.read_bytes()
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise SnapshotError(f"{path}: expected a RAM delta, got {data[:8]!r}; rebuild the snapshot")
    _, size, count, number = _HEAD.unpack_from(data)
    tables = _HEAD.size + 4 * (count + number)
    if size != ram_bytes or count > size // PAGE or number != -(-count // _BLOCK):
        raise SnapshotError(
            f"{path}: expected a base of {size} bytes, got {ram_bytes}; rebuild the snapshot"
        )
    pages = np.frombuffer(data, np.uint32, count, _HEAD.size)
    lengths = np.frombuffer(data, np.uint32, number, _HEAD.size + 4 * count)
    if tables + int(lengths.sum()) != len(data) or (count and pages.max() >= size // PAGE):
        raise SnapshotError(f"{path}: the RAM delta is cut or damaged; rebuild the snapshot")
    ends = tables + np.cumsum(lengths, dtype=np.int64)
    starts = ends - lengths
    return [
        Block(pages[i * _BLOCK : (i + 1) * _BLOCK], data[starts[i] : ends[i]])
        for i in range(number)
    ]


def _each(path: Path, ram_bytes: int, sink: Callable[[Pages, bytes], None]) -> None:
    """Give every block to `sink`, in any order, from two threads: decompressing and writing both
    let go of Python's lock, and only two blocks are ever held decompressed.
    """

    def handle(block: Block) -> None:
        try:
            data = block.bytes()
        except zstandard.ZstdError as err:
            raise SnapshotError(
                f"{path}: the RAM delta is damaged ({err}); rebuild the snapshot"
            ) from None
        sink(block.pages, data)

    blocks = read_delta(path, ram_bytes)
    with ThreadPoolExecutor(_THREADS) as workers:
        list(workers.map(handle, blocks))


def apply_delta(path: Path, ram: Path) -> None:
    """Write the pages of a delta into a RAM file. Raises: SnapshotError as `read_delta`."""
    memory = np.memmap(ram, np.uint8, "r+").reshape(-1, PAGE)

    def sink(pages: Pages, data: bytes) -> None:
        memory[pages] = np.frombuffer(data, np.uint8).reshape(-1, PAGE)

    _each(path, ram.stat().st_size, sink)


def changed_since(deltas: Sequence[Path], ram: Path, differing: Pages) -> Pages:
    """Return the pages in which `ram` differs from the base with `deltas` over it, oldest first;
    `differing` are those in which it differs from the base.

    So a harm state stores nothing that the snapshot with its apps, from which it was made, has
    stored already.
    """
    memory = np.memmap(ram, np.uint8, "r").reshape(-1, PAGE)
    changed = np.zeros(len(memory), bool)
    changed[differing] = True

    def sink(pages: Pages, data: bytes) -> None:
        # Also a page that is the base's again has changed since the delta.
        changed[pages] = (memory[pages] != np.frombuffer(data, np.uint8).reshape(-1, PAGE)).any(1)

    for delta in deltas:
        _each(delta, ram.stat().st_size, sink)
    return np.flatnonzero(changed).astype(np.uint32)


def inject(path: Path, pid: int, ram: Path) -> None:
    """Write the pages of a delta into the private mapping of `ram` that process `pid` has.

    It must be done before the device state is loaded: while loading, virtio devices read their
    queues from RAM. Nothing of the guest has run yet, so no translated code can be outdated.

    Raises: SnapshotError when the delta is damaged, or when the process may not be written to.
    """
    size = ram.stat().st_size
    start = _mapping(pid, ram, size)
    try:
        # Needs what a debugger needs: a process of our user, and a descendant where Yama asks for
        # that (its level 1). QEMU is both; its own sandbox does not matter.
        memory = os.open(f"/proc/{pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
    except PermissionError as err:
        raise SnapshotError(
            f"expected to write to the memory of our own QEMU, got {err.strerror}; allow it with: "
            "sysctl kernel.yama.ptrace_scope=1"
        ) from None

    def sink(pages: Pages, data: bytes) -> None:
        view = memoryview(data)
        # One call for each run of neighbours, not for each page.
        cuts = [0, *(np.flatnonzero(np.diff(pages) != 1) + 1).tolist(), len(pages)]
        for low, high in zip(cuts, cuts[1:], strict=False):
            part = view[low * PAGE : high * PAGE]
            while part:  # the kernel may write less than it was given
                offset = start + int(pages[high - 1] + 1) * PAGE - len(part)
                part = part[os.pwrite(memory, part, offset) :]

    try:
        _each(path, size, sink)
    finally:
        os.close(memory)


def _mapping(pid: int, ram: Path, size: int) -> int:
    """Return where process `pid` has mapped the whole of `ram` privately."""
    name = str(ram.resolve())
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, mode, offset, _device, _inode, *path = line.split(maxsplit=5)
        low, high = (int(word, 16) for word in span.split("-"))
        if path == [name] and mode.endswith("p") and (int(offset, 16), high - low) == (0, size):
            return low
    raise SnapshotError(
        f"expected QEMU (process {pid}) to map {name} privately as one piece of {size} bytes, "
        "got no such mapping; is this QEMU supported?"
    )

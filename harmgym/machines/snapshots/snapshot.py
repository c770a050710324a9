"""A snapshot: RAM, disk and devices of a settled machine as a frozen folder with a manifest.

Folder of a snapshot (names are relative, so the cache can be moved):

| file | content |
| --- | --- |
| `manifest.json` | `Manifest`: format, key, parent, hardware, sizes and SHA-256 of what follows |
| `ram` | base snapshot only: the RAM, sparse |
| `ram.delta` | derived snapshot only: the pages that differ from the parent's RAM |
| `state` | base snapshot only: device state, without RAM |
| `state.zst` | derived snapshot only: the same, compressed from 4.6 MB to a quarter of one |
| `disk.qcow2` | the disk's difference to the parent's disk (or to the image) |
| `journal.jsonl` | what the journal held when the snapshot was taken |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zstandard

from harmgym.errors import InputError, SnapshotError
from harmgym.files import sha256_of, write_atomic
from harmgym.machines.protocol import JournalEntry
from harmgym.machines.snapshots.proof import Proof
from harmgym.records import Record, parse_record, read_json

REBUILD = "rebuild with: harmgym snapshot build"
FORMAT = 2
DERIVED_FORMAT = 2
"""Formats of base and derived snapshots. They are apart because a base takes minutes to build and
a derived one seconds: a change of what is stored for a harm state leaves the bases valid.
"""


class FileRecord(Record):
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str


class Manifest(Record):
    """What a snapshot is and depends on. `meta` is what the set-up returned; JSON values only."""

    format: int
    key: str
    label: str
    parent: str | None
    image: str
    hardware: dict[str, object]
    created: str
    build_seconds: float
    files: dict[str, FileRecord]
    meta: dict[str, Any]
    proof: Proof | None = None
    """What a fresh clone of a base snapshot held and burnt; None for a derived one."""


class Snapshot(Record):
    """A snapshot on disk. `ram` is the base's RAM, ready to be mapped; `deltas` are what to write
    over it, oldest first. `chain` is the disk, newest first, down to the raw image.
    """

    folder: Path
    manifest: Manifest
    ram: Path
    deltas: tuple[Path, ...]
    chain: tuple[Path, ...]

    @property
    def key(self) -> str:
        return self.manifest.key

    @property
    def label(self) -> str:
        return self.manifest.label

    @property
    def meta(self) -> dict[str, Any]:
        return self.manifest.meta

    @property
    def state(self) -> Path:
        return self.folder / ("state.zst" if self.deltas else "state")

    @property
    def folders(self) -> tuple[Path, ...]:
        """The cache folders that a machine of this snapshot reads from: its own first, the image's
        last.
        """
        return tuple(dict.fromkeys((self.folder, *(file.parent for file in self.chain))))

    def unpack_state(self, folder: Path) -> Path:
        """Return the device state as a file that QEMU can read, unpacked into `folder`."""
        target = folder / "unpacked"
        try:
            with self.state.open("rb") as packed, target.open("wb") as raw:
                zstandard.ZstdDecompressor().copy_stream(packed, raw)
        except zstandard.ZstdError as err:
            raise SnapshotError(
                f"{self.state}: the device state is damaged ({err}); {REBUILD}"
            ) from None
        return target

    def journal(self) -> tuple[JournalEntry, ...]:
        """Return the journal as it was when the snapshot was taken."""
        lines = (self.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
        return tuple(JournalEntry.model_validate_json(line) for line in lines)


def compress_state(raw: Path, target: Path) -> None:
    """Replace a device state as QEMU wrote it by its compressed form."""
    with raw.open("rb") as source, target.open("wb") as packed:
        zstandard.ZstdCompressor(level=3).copy_stream(source, packed)
    raw.unlink()


def digest(parts: Iterable[object]) -> str:
    """Return a SHA-256 over values that JSON can write; equal values give equal keys on every
    host.
    """
    text = json.dumps(list(parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_record(path: Path) -> FileRecord:
    """Measure a file."""
    return FileRecord(size=path.stat().st_size, sha256=sha256_of(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_atomic(folder / "manifest.json", manifest.model_dump_json(indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read a snapshot's manifest.

    Raises: SnapshotError when it is missing, broken or of another format.
    """
    path = folder / "manifest.json"
    try:
        manifest = parse_record(read_json(path), Manifest, str(path))
    except InputError as err:
        reason = str(err).splitlines()[0].removeprefix(f"{path}: ")
        raise SnapshotError(
            f"{path}: not a snapshot manifest ({reason}); rebuild the snapshot"
        ) from None
    expected = FORMAT if manifest.parent is None else DERIVED_FORMAT
    if manifest.format != expected:
        raise SnapshotError(
            f"{path}: expected format {expected}, got {manifest.format}; rebuild the snapshot"
        )
    return manifest


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Raise SnapshotError when a file is missing or has another size. Costs microseconds, so it
    runs before every clone.
    """
    for name, record in manifest.files.items():
        path = folder / name
        found = path.stat().st_size if path.exists() else None
        if found != record.size:
            raise SnapshotError(f"{path}: expected {record.size} bytes, got {found}; {REBUILD}")


def check_digests(folder: Path, manifest: Manifest) -> None:
    """Raise SnapshotError when the content of a file is not what the manifest says. Reads
    everything.
    """
    check_sizes(folder, manifest)
    for name, record in manifest.files.items():
        found = file_record(folder / name)
        if found.sha256 != record.sha256:
            needed = f"expected SHA-256 {record.sha256[:12]}…, got {found.sha256[:12]}…"
            raise SnapshotError(f"{folder / name}: {needed}; {REBUILD}")

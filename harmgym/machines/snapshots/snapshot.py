"""A snapshot: RAM, disk and devices of a settled machine as a frozen folder with a manifest.

Folder of a snapshot (names are relative, so the cache can be moved):

| file | content |
| --- | --- |
| `manifest.json` | `Manifest`: format, key, parent, hardware, sizes and SHA-256 of what follows |
| `ram` | base snapshot only: the RAM, sparse |
| `ram.delta` | derived snapshot only: the pages that differ from the parent's RAM |
| `state` | device state, without RAM |
| `disk.qcow2` | the disk's difference to the parent's disk (or to the image) |
| `journal.jsonl` | what the journal held when the snapshot was taken |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harmgym.errors import SnapshotError
from harmgym.machines.protocol import JournalEntry
from harmgym.machines.snapshots.proof import Proof
from harmgym.records import Record

FORMAT = 2


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
    hardware: dict[str, Any]
    created: str
    build_seconds: float
    files: dict[str, FileRecord]
    meta: dict[str, Any]
    proof: Proof | None = None
    """What a fresh clone of a base snapshot held and burnt; None for a derived one."""


class Snapshot(Record):
    """A snapshot on disk. `chain` is its disk, newest first, down to the raw image; `ram` is ready
    to be mapped.
    """

    folder: Path
    manifest: Manifest
    ram: Path
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
        return self.folder / "state"

    def journal(self) -> tuple[JournalEntry, ...]:
        """Return the journal as it was when the snapshot was taken."""
        lines = (self.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
        return tuple(JournalEntry.model_validate_json(line) for line in lines)


def digest(parts: Iterable[object]) -> str:
    """Return a SHA-256 over values that JSON can write; equal on every host for equal values."""
    text = json.dumps(list(parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_record(path: Path) -> FileRecord:
    """Measure a file."""
    with path.open("rb") as file:
        return FileRecord(
            size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest()
        )


def read_manifest(folder: Path) -> Manifest:
    """Read a snapshot's manifest.

    Raises: SnapshotError when it is missing, broken or of another format.
    """
    path = folder / "manifest.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("format") != FORMAT:
            raise SnapshotError(
                f"{path}: needed format {FORMAT}, found {data.get('format')!r}; rebuild the"
                " snapshot"
            )
        return Manifest.model_validate(data)
    except FileNotFoundError:
        raise SnapshotError(f"{path}: not found; rebuild the snapshot") from None
    except (ValueError, AttributeError, ValidationError) as err:
        raise SnapshotError(
            f"{path}: not a snapshot manifest ({str(err).splitlines()[0]}); rebuild the snapshot"
        ) from None


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Raise SnapshotError when a file is missing or has another size. Costs microseconds, so it
    runs before every clone.
    """
    for name, record in manifest.files.items():
        path = folder / name
        found = path.stat().st_size if path.exists() else None
        if found != record.size:
            raise SnapshotError(
                f"{path}: needed {record.size} bytes, found {found}; rebuild with: harmgym"
                " snapshot build"
            )


def check_digests(folder: Path, manifest: Manifest) -> None:
    """Raise SnapshotError when the content of a file is not what the manifest says. Reads
    everything.
    """
    check_sizes(folder, manifest)
    for name, record in manifest.files.items():
        found = file_record(folder / name)
        if found.sha256 != record.sha256:
            needed = f"needed SHA-256 {record.sha256[:12]}…, found {found.sha256[:12]}…"
            raise SnapshotError(f"{folder / name}: {needed}; rebuild with: harmgym snapshot build")


def write_json(path: Path, value: Record) -> None:
    """Write a record as indented JSON."""
    path.write_text(value.model_dump_json(indent=1) + "\n", encoding="utf-8")

"""What changes on any desktop without anybody meaning it: ``noise.yaml``, read."""

from __future__ import annotations

import functools
from pathlib import Path

from harmgym.disk import ChangeKind
from harmgym.records import Record, load_record


class FileRule(Record):
    """Files that any desktop changes; see the head of ``noise.yaml``."""

    glob: str
    why: str
    changes: tuple[ChangeKind, ...] = ("added", "content", "removed")
    grow: bool = False
    closes: bool = False
    programs: bool = False
    sockets: bool = False
    without: str = ""


class Noise(Record):
    """The keys of ``noise.yaml``."""

    files: tuple[FileRule, ...]


@functools.cache
def noise() -> Noise:
    """Return the list of what is noise on any desktop."""
    return load_record(Path(__file__).with_name("noise.yaml"), Noise)

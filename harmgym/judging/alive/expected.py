"""What differs between two looks at any desktop: ``expected.yaml``, read."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harmgym.globs import matches
from harmgym.machines.survey import MemoryFile, Mount
from harmgym.records import Record, load_record

MemoryChange = Literal["added", "removed", "content", "rights"]
MemoryKind = Literal["file", "dir", "link", "fifo", "socket", "char", "block"]


class NameRule(Record):
    glob: str
    why: str


class UnitRules(Record):
    started: tuple[NameRule, ...]
    ended: tuple[NameRule, ...]


class MountRule(NameRule):
    kinds: tuple[str, ...]


class MemoryRule(NameRule):
    kinds: tuple[MemoryKind, ...] = ("file", "dir", "link", "fifo", "socket")
    changes: tuple[MemoryChange, ...] = ("added", "removed", "content")


class SessionRule(Record):
    severity: Annotated[int, Field(ge=1, le=3)]
    why: str


class Expected(Record):
    """The keys of ``expected.yaml``."""

    units: UnitRules
    mounts: tuple[MountRule, ...]
    memory: tuple[MemoryRule, ...]
    session: dict[str, SessionRule]

    def mount(self, mount: Mount) -> bool:
        """Whether a file system may come and go there."""
        return any(mount.kind in r.kinds and matches(mount.path, r.glob) for r in self.mounts)

    def file(self, file: MemoryFile, change: MemoryChange) -> bool:
        """Whether a file in memory may change like this."""
        return any(
            change in rule.changes and file.kind in rule.kinds and matches(file.path, glob)
            for rule, glob in _memory_globs()
        )


def listed(name: str, rules: Iterable[NameRule]) -> bool:
    return any(matches(name, rule.glob) for rule in rules)


@functools.cache
def expected() -> Expected:
    """Return the list of what differs on any desktop."""
    return load_record(Path(__file__).with_name("expected.yaml"), Expected)


@functools.cache
def _memory_globs() -> tuple[tuple[MemoryRule, str], ...]:
    """What may come and go below a folder may bring the folder along."""
    globs = []
    for rule in expected().memory:
        wide = rule.glob.endswith("/**")
        globs.append((rule, f"{{{rule.glob},{rule.glob[:-3]}}}" if wide else rule.glob))
    return tuple(globs)

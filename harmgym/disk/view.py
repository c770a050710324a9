"""What every view of a guest's files offers, and what makes two views differ.

A view is read-only and never asks the guest. Paths are absolute guest paths
(``"/home/user/notes.txt"``); names that are no text stand in them, and in the targets of links, as
`harmgym.disk.names.shown` writes them. Symbolic links on the way are followed, as the guest would.
The last part is followed by `read`, `text`, `sha256`, `size`-like content calls and `listdir`, and
not by `exists`, `stat` and `readlink`, which speak of the entry itself.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

from harmgym.globs import matches
from harmgym.records import Record

FileKind = Literal["file", "dir", "link", "fifo", "socket", "char", "block"]
ChangeKind = Literal["added", "removed", "content", "mode", "owner", "type"]

HASH_LIMIT = 64 << 20
"""Files beyond this many bytes are not hashed: an agent can make a file of terabytes at no cost."""

READ_LIMIT = 64 << 20
"""Most bytes that `read` returns in one piece."""


class Stat(Record):
    """One directory entry: mode is the permission bits only (0 to 0o7777), times are seconds since
    1970.
    """

    kind: FileKind
    mode: int
    uid: int
    gid: int
    size: int
    mtime: float
    ctime: float
    inode: int
    links: int
    rights: tuple[str, ...] = ()
    """What rules access beside the mode, and what hides beside the content: access lists,
    capabilities and other extended attributes, the immutable and append-only flags.
    """

    @property
    def is_file(self) -> bool:
        return self.kind == "file"

    @property
    def is_dir(self) -> bool:
        return self.kind == "dir"


class FileState(Record):
    """What is compared between two views; `sha256` is None for what has no content or more than
    `HASH_LIMIT` bytes, and where a comparison has read its fill.

    `device`: the numbers of a device node. `linked`: another path, one of the older state, that
    names the very same file now (a hard link); "" for none.
    """

    kind: FileKind
    mode: int
    uid: int
    gid: int
    size: int
    sha256: str | None = None
    rights: tuple[str, ...] = ()
    device: str = ""
    linked: str = ""


class Change(Record):
    """One way in which the entry at `path` differs; a path may have several (content and mode, for
    example).
    """

    path: str
    kind: ChangeKind
    before: FileState | None = None
    after: FileState | None = None

    @property
    def state(self) -> FileState:
        """The newer state that is known."""
        state = self.after or self.before
        assert state is not None
        return state

    def sentence(self) -> str:
        """Say in a few words what changed."""
        a, b = self.after, self.before
        linked = f", and is the same file as {a.linked}" if a and a.linked else ""
        if self.kind == "mode" and a and b:
            return _mode_sentence(b, a)
        if self.kind == "owner" and a and b:
            return f"owner {b.uid}:{b.gid} became {a.uid}:{a.gid}"
        if self.kind == "content" and a and b:
            what = f"{b.size} to {a.size} bytes" if a.kind != "link" else "leads elsewhere"
            if a.device or b.device:
                what = f"device {b.device} to {a.device}"
            return f"content changed ({what}){linked}"
        if self.kind == "type" and a and b:
            return f"{b.kind} became {a.kind}{linked}"
        if self.kind == "added":
            return f"{_described(self.state)} was added{linked}"
        return f"{self.state.kind} was {self.kind}"


def _mode_sentence(before: FileState, after: FileState) -> str:
    """Say what became of mode and rights, each only where it changed."""
    parts = []
    if before.mode != after.mode or before.rights == after.rights:
        parts.append(f"mode {before.mode:04o} became {after.mode:04o}")
    gained = [word for word in after.rights if word not in before.rights]
    lost = [word for word in before.rights if word not in after.rights]
    parts += [f"now {word}" for word in gained] + [f"no longer {word}" for word in lost]
    return ", ".join(parts)


def _described(state: FileState) -> str:
    """Name what was added, with what is out of the ordinary about it."""
    words = [
        word
        for word, bits in (("setuid", 0o4000), ("setgid", 0o2000))
        if state.kind == "file" and state.mode & bits
    ]
    kind = f"{state.kind} device {state.device}" if state.device else state.kind
    rights = f" with {', '.join(state.rights)}" if state.rights else ""
    return " ".join([*words, kind]) + rights


@runtime_checkable
class DiskView(Protocol):
    """Read-only view of a guest's file system.

    Raises (all calls): FileNotFoundError, NotADirectoryError and IsADirectoryError as `os` would;
    CorruptFileSystem where the guest's structures make no sense.
    """

    def exists(self, path: str) -> bool: ...
    def stat(self, path: str) -> Stat: ...
    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """Return the content, at most the first `limit` bytes."""
        ...

    def text(self, path: str) -> str:
        """Return the content as UTF-8; bytes that are none become U+FFFD."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Return the sorted names in a folder."""
        ...

    def walk(self, path: str = "/") -> Iterator[tuple[str, Stat]]:
        """Yield (path, stat) of everything at and below `path`, folders before what they hold,
        links not followed.
        """
        ...

    def sha256(self, path: str) -> str:
        """Return the digest of the content; beyond `HASH_LIMIT` a text that equals no digest."""
        ...

    def readlink(self, path: str) -> str: ...
    def glob(self, pattern: str) -> list[str]:
        """Return the sorted paths that match; ``**`` crosses directories, ``*`` does not."""
        ...


def state_of(view: DiskView, path: str) -> FileState:
    """Return what is compared, with the hash of the content."""
    stat = view.stat(path)
    digest = None
    if stat.kind == "link":
        digest = hashlib.sha256(view.readlink(path).encode()).hexdigest()
    elif stat.kind == "file" and stat.size <= HASH_LIMIT:
        digest = view.sha256(path)
    size = 0 if stat.kind == "dir" else stat.size
    return FileState(
        kind=stat.kind,
        mode=stat.mode,
        uid=stat.uid,
        gid=stat.gid,
        size=size,
        sha256=digest,
        rights=stat.rights,
    )


def _content(state: FileState) -> tuple[object, ...]:
    return state.size, state.sha256, state.device


def differences(path: str, before: FileState | None, after: FileState | None) -> list[Change]:
    """Return how the entry at `path` differs. Times and the size of a folder are no difference."""
    if before is None or after is None:
        if before is after:
            return []
        return [
            Change(
                path=path, kind="added" if before is None else "removed", before=before, after=after
            )
        ]
    kinds: list[ChangeKind] = []
    if before.kind != after.kind:
        kinds.append("type")
    elif _content(before) != _content(after):
        kinds.append("content")
    if (before.mode, before.rights) != (after.mode, after.rights) and "link" not in (
        before.kind,
        after.kind,
    ):
        kinds.append("mode")
    if (before.uid, before.gid) != (after.uid, after.gid):
        kinds.append("owner")
    return [Change(path=path, kind=kind, before=before, after=after) for kind in kinds]


def glob_root(pattern: str) -> str:
    """Return the longest folder that every match of `pattern` lies in."""
    fixed = re.split(r"[*?\[{\\]", pattern, maxsplit=1)[0]
    return posixpath.dirname(fixed) or "/"


def glob_walk(view: DiskView, pattern: str) -> list[str]:
    """Return the sorted paths of `view` that match `pattern`, by walking from its fixed part."""
    if not re.search(r"[*?\[{\\]", pattern):
        return [pattern] if view.exists(pattern) else []
    root = glob_root(pattern)
    if not view.exists(root):
        return []
    return sorted(path for path, _ in view.walk(root) if matches(path, pattern))

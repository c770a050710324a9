"""The view of a guest's disk, read from a chain of disk files."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from harmgym.disk.ext4 import ROOT, Ext4, Inode
from harmgym.disk.index import DiskIndex, chain_identity
from harmgym.disk.names import shown
from harmgym.disk.qcow2 import Chain
from harmgym.disk.view import HASH_LIMIT, READ_LIMIT, FileKind, FileState, Stat, glob_walk
from harmgym.errors import CorruptFileSystem

MAX_LINKS = 40


class Ext4View:
    """A `DiskView` of the ext4 file system on a chain of disk files, newest first."""

    def __init__(self, files: Sequence[Path | str], cache: Path | None = None) -> None:
        """`cache`: where the disk's index is kept (a snapshot's directory); None: in memory."""
        self.fs = Ext4(Chain(files))
        self._cache = cache
        self._index: DiskIndex | None = None

    def close(self) -> None:
        self.fs.chain.close()

    @property
    def index(self) -> DiskIndex:
        """The disk's index, read from the cache or built on first use. Only for disks that no
        longer change.
        """
        if self._index is None:
            identity = chain_identity(self.fs)
            self._index = DiskIndex.load(self._cache, identity) if self._cache else None
            if self._index is None:
                self._index = DiskIndex.build(self.fs)
                if self._cache:
                    # On a full or read-only disk the index is only built again next time.
                    with contextlib.suppress(OSError):
                        self._index.save(self._cache, identity)
        return self._index

    def lookup(self, path: str, follow: bool = True) -> Inode:
        """Return the inode at a path. Raises: FileNotFoundError, NotADirectoryError."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        trail, inode, links = [ROOT], self.fs.inode(ROOT), 0
        while parts:
            part = parts.pop(0)
            if inode.kind != "dir":
                raise NotADirectoryError(f"not a folder on the way to {path!r}")
            # A path is followed as the kernel does it: ".." leaves the directory that was entered,
            # which after a link is not the one that the path names.
            if part == "..":
                trail = trail[:-1] or [ROOT]
                inode = self.fs.inode(trail[-1])
                continue
            number = self._named(inode.number, part)
            if number is None:
                raise FileNotFoundError(f"no such file or folder in the guest: {path!r}")
            child = self.fs.inode(number)
            if child.kind == "link" and (parts or follow):
                links += 1
                if links > MAX_LINKS:
                    raise FileNotFoundError(f"too many symbolic links at {path!r}")
                target = self.fs.target(child)
                parts = [p for p in target.split("/") if p not in ("", ".")] + parts
                if target.startswith("/"):
                    trail, inode = [ROOT], self.fs.inode(ROOT)
                continue
            inode = child
            trail.append(number)
        return inode

    def _named(self, folder: int, name: str) -> int | None:
        """Return the inode of a name, which is written as a view shows it or as the guest has it
        (with control characters, or with surrogates for bytes that are no UTF-8).
        """
        entries = self.fs.entries(folder)
        if name not in entries:
            name = shown(name.encode("utf-8", "surrogateescape"))
        return entries.get(name)

    def exists(self, path: str) -> bool:
        try:
            self.lookup(path, follow=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def stat(self, path: str) -> Stat:
        return self.stat_inode(self.lookup(path, follow=False))

    def stat_inode(self, inode: Inode) -> Stat:
        """Return the stat of an inode."""
        return Stat(
            kind=self.kind(inode),
            mode=inode.mode & 0o7777,
            uid=inode.uid,
            gid=inode.gid,
            size=inode.size,
            mtime=inode.mtime,
            ctime=inode.ctime,
            inode=inode.number,
            links=inode.links,
            rights=self.fs.rights(inode),
        )

    def kind(self, inode: Inode) -> FileKind:
        """Return the kind of file. Raises: CorruptFileSystem for a mode that no file has."""
        if inode.kind == "unknown" or not inode.used:
            raise CorruptFileSystem(
                f"a folder names inode {inode.number}, which is not in use (mode {inode.mode:o})"
            )
        return cast(FileKind, inode.kind)

    def _content(self, path: str) -> Inode:
        inode = self.lookup(path)
        if inode.kind == "dir":
            raise IsADirectoryError(f"is a folder: {path!r}")
        return inode

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        return b"".join(self.fs.pieces(self._content(path), limit))

    def text(self, path: str) -> str:
        return self.read(path).decode("utf-8", "replace")

    def listdir(self, path: str) -> list[str]:
        inode = self.lookup(path)
        if inode.kind != "dir":
            raise NotADirectoryError(f"is not a folder: {path!r}")
        return sorted(self.fs.entries(inode.number))

    def walk(self, path: str = "/") -> Iterator[tuple[str, Stat]]:
        start = self.lookup(path, follow=False)
        pending = [(posixpath.normpath(path), start.number)]
        seen: set[int] = set()
        while pending:
            here, number = pending.pop()
            inode = self.fs.inode(number)
            yield here, self.stat_inode(inode)
            if inode.kind == "dir":
                if number in seen:
                    raise CorruptFileSystem(f"the directory {here!r} is inside itself")
                seen.add(number)
                children = sorted(self.fs.entries(number).items(), reverse=True)
                pending += [(posixpath.join(here, name), child) for name, child in children]

    def sha256(self, path: str) -> str:
        return self.hash_inode(self._content(path))

    def hash_inode(self, inode: Inode) -> str:
        """Return the sha256 of a file's content, or of a link's target; "too large: N bytes" beyond
        `HASH_LIMIT`.
        """
        if inode.kind == "link":
            return hashlib.sha256(self.fs.target(inode).encode()).hexdigest()
        if inode.size > HASH_LIMIT:
            return f"too large: {inode.size} bytes"
        digest = hashlib.sha256()
        for piece in self.fs.pieces(inode, inode.size):
            digest.update(piece)
        return digest.hexdigest()

    def readlink(self, path: str) -> str:
        inode = self.lookup(path, follow=False)
        if inode.kind != "link":
            raise OSError(f"is not a link: {path!r}")
        return self.fs.target(inode)

    def glob(self, pattern: str) -> list[str]:
        return glob_walk(self, pattern)

    def state(self, inode: Inode, sha256: str | None, linked: str = "") -> FileState:
        """Return what is compared of an inode; `linked`: see `FileState`."""
        return FileState(
            kind=self.kind(inode),
            mode=inode.mode & 0o7777,
            uid=inode.uid,
            gid=inode.gid,
            size=0 if inode.kind == "dir" else inode.size,
            sha256=sha256,
            rights=self.fs.rights(inode),
            device=inode.device,
            linked=linked,
        )


def hashable(inode: Inode) -> bool:
    """Whether the content of an inode is hashed."""
    return inode.kind == "link" or (inode.kind == "file" and inode.size <= HASH_LIMIT)


def open_disk(files: Sequence[Path | str], cache: Path | None = None) -> Ext4View:
    """Return the view of a disk that is given by its files, newest first: (overlay, …, raw image).

    The files must hold still: the machine is paused, or ended. `cache` is the folder that keeps the
    index of a frozen disk. Raises: DiskError, CorruptFileSystem.
    """
    return Ext4View(files, cache)

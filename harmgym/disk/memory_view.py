"""A view of files held in memory: for machines that have no disk, and for trying checks on made-up
cases.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harmgym.disk.names import shown
from harmgym.disk.view import READ_LIMIT, FileKind, Stat, glob_walk

MAX_LINKS = 40


@dataclass(frozen=True)
class Node:
    """A file, folder or link; `data` is its content, or the target of a link."""

    data: bytes = b""
    kind: FileKind = "file"
    mode: int = 0o644
    uid: int = 1000
    gid: int = 1000


class MemoryView:
    """A `DiskView` of a mapping from absolute path to content or `Node`; missing parents are
    folders of root, mode 755.
    """

    def __init__(self, files: Mapping[str, bytes | str | Node]) -> None:
        self._nodes: dict[str, Node] = {"/": Node(kind="dir", mode=0o755, uid=0, gid=0)}
        self._children: dict[str, set[str]] = {"/": set()}
        for path, item in files.items():
            node = (
                item
                if isinstance(item, Node)
                else Node(item.encode() if isinstance(item, str) else item)
            )
            self._add(posixpath.normpath(path), node)

    def _add(self, path: str, node: Node) -> None:
        parent, name = posixpath.split(path)
        if parent not in self._nodes:
            self._add(parent, Node(kind="dir", mode=0o755, uid=0, gid=0))
        self._nodes[path] = node
        if name:
            self._children.setdefault(parent, set()).add(name)

    def _resolve(self, path: str, follow: bool, depth: int = 0) -> str:
        if depth > MAX_LINKS:
            raise FileNotFoundError(f"too many symbolic links at {path!r}")
        done, parts = "/", [p for p in path.split("/") if p not in ("", ".")]
        for i, part in enumerate(parts):
            done = posixpath.normpath(posixpath.join(done, part))
            node = self._nodes.get(done)
            if node is None:
                raise FileNotFoundError(f"no such file or folder: {path!r}")
            if node.kind == "link" and (follow or i < len(parts) - 1):
                target = posixpath.join(posixpath.dirname(done), shown(node.data))
                return self._resolve(posixpath.join(target, *parts[i + 1 :]), follow, depth + 1)
        return done

    def exists(self, path: str) -> bool:
        try:
            self._resolve(path, follow=False)
        except FileNotFoundError:
            return False
        return True

    def stat(self, path: str) -> Stat:
        path = self._resolve(path, follow=False)
        node = self._nodes[path]
        return Stat(
            kind=node.kind,
            mode=node.mode,
            uid=node.uid,
            gid=node.gid,
            size=len(node.data),
            mtime=0.0,
            ctime=0.0,
            inode=list(self._nodes).index(path) + 2,
            links=1,
        )

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        node = self._nodes[self._resolve(path, follow=True)]
        if node.kind == "dir":
            raise IsADirectoryError(f"is a folder: {path!r}")
        return node.data[:limit]

    def text(self, path: str) -> str:
        return self.read(path).decode("utf-8", "replace")

    def listdir(self, path: str) -> list[str]:
        path = self._resolve(path, follow=True)
        if self._nodes[path].kind != "dir":
            raise NotADirectoryError(f"is not a folder: {path!r}")
        return sorted(self._children.get(path, ()))

    def walk(self, path: str = "/") -> Iterator[tuple[str, Stat]]:
        stat = self.stat(path)
        yield path, stat
        if stat.kind == "dir":
            for name in self.listdir(path):
                yield from self.walk(posixpath.join(path, name))

    def sha256(self, path: str) -> str:
        return hashlib.sha256(self.read(path)).hexdigest()

    def readlink(self, path: str) -> str:
        node = self._nodes[self._resolve(path, follow=False)]
        if node.kind != "link":
            raise OSError(f"is not a link: {path!r}")
        return shown(node.data)

    def glob(self, pattern: str) -> list[str]:
        return glob_walk(self, pattern)

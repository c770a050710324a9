"""What differs between two states of a guest's files.

Two ext4 disks that share their older files are compared by their changed blocks: changed
inode-table blocks name the changed inodes, and the index of the older disk names the owner of any
other changed block. The tree is not walked, so the cost follows what changed. Content written past
the file system (to the disk device, or with the clock turned back) is found too, since blocks are
compared, not times.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from harmgym.disk.ext4 import ROOT, Extent, Inode
from harmgym.disk.ext4_view import Ext4View, hashable
from harmgym.disk.qcow2 import Blocks, changed_blocks
from harmgym.disk.view import HASH_LIMIT, Change, DiskView, differences, state_of
from harmgym.errors import CorruptFileSystem

MAX_CHANGES = 50_000
"""Where a comparison stops: an agent may make a million files."""
READ_TIMES = ((8, 12), (140, 144))
"""Where an inode's record says when it was last read."""


@dataclass(frozen=True)
class Difference:
    """How a newer state of the files differs from an older one.

    | field | what it is |
    | --- | --- |
    | changes | what differs, by path; times and the sizes of directories do not count |
    | touched | the paths of both states that were written to in any way, times of change included |
    | unlisted | how many changes of each kind were counted and are not in `changes` |

    A file that was replaced and put back differs in nothing, and is in `touched`: its inode is
    another one, or has another time of change. Only reading (the time of access) leaves no trace.
    """

    changes: tuple[Change, ...] = ()
    touched: frozenset[str] = frozenset()
    unlisted: Mapping[str, int] = field(default_factory=dict)


def diff(before: DiskView, after: DiskView) -> Difference:
    """Return how `after` differs from `before`.

    A renamed file shows as removed and added with the same sha256. Raises: CorruptFileSystem when
    the newer disk makes no sense.
    """
    paths: set[str] = set()
    if isinstance(before, Ext4View) and isinstance(after, Ext4View):
        found = _Ext4Diff(before, after, paths).changes()
    else:
        found = _walked(before, after, paths)
    changes: list[Change] = []
    unlisted: dict[str, int] = {}
    for change in found:
        if len(changes) < MAX_CHANGES:
            changes.append(change)
        else:
            unlisted[change.kind] = unlisted.get(change.kind, 0) + 1
    ordered = sorted(set_by_key(changes), key=lambda change: (change.path, change.kind))
    return Difference(tuple(ordered), frozenset(paths), unlisted)


def set_by_key(changes: list[Change]) -> list[Change]:
    """Return the changes without repeats of the same path and kind."""
    return list({(change.path, change.kind): change for change in changes}.values())


def _walked(before: DiskView, after: DiskView, touched: set[str]) -> Iterator[Change]:
    old, new = ({path for path, _ in view.walk("/")} for view in (before, after))
    for path in sorted(old | new):
        found = differences(
            path,
            state_of(before, path) if path in old else None,
            state_of(after, path) if path in new else None,
        )
        if found and path in old and path in new:
            touched.add(path)
        yield from found


class _Ext4Diff:
    def __init__(self, before: Ext4View, after: Ext4View, paths: set[str]) -> None:
        """`paths` is filled with the paths of both states that were written to."""
        if before.fs.geometry != after.fs.geometry:
            raise CorruptFileSystem(
                f"{after.fs.chain.files[0]}: the file system's layout is no longer that of the "
                "snapshot"
            )
        self.before, self.after = before, after
        self.index = before.index
        self.blocks: Blocks = changed_blocks(before.fs.chain, after.fs.chain)
        self.touched = self._touched()
        self.paths = paths
        self._alive: dict[int, bool] = {ROOT: True}
        self._paths: dict[int, str] = {ROOT: "/"}
        self._seen: set[int] = set()
        self._hash_left = 8 * HASH_LIMIT

    def _touched(self) -> set[int]:
        """Return the inodes whose record, content, tree or attributes changed."""
        numbers, new = self.after.fs.inode_records(self.blocks)
        _, old = self.before.fs.inode_records(self.blocks)
        for record in (old, new):
            for start, end in READ_TIMES:
                record[:, start:end] = 0
        differ = (new.view(np.uint64) != old.view(np.uint64)).any(axis=1)
        return set(numbers[differ].tolist()) | set(self.index.owners(self.blocks).tolist())

    def changes(self) -> Iterator[Change]:
        for number in sorted(self.touched):
            if number != ROOT and number < 11:
                continue  # ext4's own: journal, bad blocks, ...
            old = self.before.fs.inode(number)
            links = self.index.links(number) if number != ROOT else [(ROOT, "")]
            if not old.used or not links:
                continue  # a new inode is found through the directory that names it
            for parent, name in links:
                if not self._folder_alive(parent) or (name and self._child(parent, name) != number):
                    continue
                yield from self._same_inode(posixpath.join(self._path(parent), name), old)

    # Names that both states have
    def _folder_alive(self, number: int) -> bool:
        """Whether a folder of the older state has the same path and inode in the newer one."""
        # Climbs to the first ancestor whose answer is known, and gives that to all on the way.
        chain = []
        while number not in self._alive:
            chain.append(number)
            links = self.index.links(number)
            parent, name = links[0] if links else (0, "")
            still = (
                bool(links) and self._child(parent, name) == number and self._still_folder(number)
            )
            if not still:
                self._alive[number] = False
                break
            number = parent
        alive = self._alive[number]
        for item in chain:
            self._alive.setdefault(item, alive)
        return alive

    def _still_folder(self, number: int) -> bool:
        return number not in self.touched or self.after.fs.inode(number).kind == "dir"

    def _child(self, parent: int, name: str) -> int | None:
        """Return the inode that `name` has in the newer state of a folder."""
        if parent not in self.touched:
            return self.before.fs.entries(parent).get(name)
        inode = self.after.fs.inode(parent)
        return (
            self.after.fs.entries(parent).get(name) if inode.used and inode.kind == "dir" else None
        )

    def _path(self, number: int) -> str:
        if number not in self._paths:
            parent, name = self.index.links(number)[0]
            self._paths[number] = posixpath.join(self._path(parent), name)
        return self._paths[number]

    def _same_inode(self, path: str, old: Inode) -> Iterator[Change]:
        """Compare one inode that has the same name in both states, and the entries of a folder."""
        new = self.after.fs.inode(old.number)
        if not new.used:
            raise CorruptFileSystem(f"{path!r} names inode {new.number}, which is not in use")
        self.paths.add(path)
        yield from self._compare(path, old, new)
        if old.kind == "dir" or new.kind == "dir":
            same_folder = old.kind == new.kind
            yield from self._children(path, old, new, skip_equal=same_folder)

    # Names that one state has, or that lead to another inode now
    def _children(
        self, path: str, old: Inode | None, new: Inode | None, skip_equal: bool
    ) -> Iterator[Change]:
        """Compare the entries of two folders, and all below those that are not the same inode."""
        # A list instead of recursion: an agent can nest directories deeper than Python's stack.
        pending = [(path, old, new, skip_equal)]
        while pending:
            here, a, b, skip = pending.pop()
            olds = self.before.fs.entries(a.number) if a and a.kind == "dir" else {}
            news = self.after.fs.entries(b.number) if b and b.kind == "dir" else {}
            for name in sorted(olds.keys() | news.keys()):
                if skip and olds.get(name) == news.get(name):
                    continue  # if it changed, it is in `touched` and compared on its own
                old_child = self.before.fs.inode(olds[name]) if name in olds else None
                new_child = self.after.fs.inode(news[name]) if name in news else None
                child = posixpath.join(here, name)
                if name in olds and name in news and self._written(olds[name], news[name]):
                    self.paths.add(child)
                yield from self._compare(child, old_child, new_child)
                if "dir" in (old_child and old_child.kind, new_child and new_child.kind):
                    self._descend_once(child, new_child)
                    pending.append((child, old_child, new_child, False))

    def _written(self, old: int, new: int) -> bool:
        return old != new or old in self.touched

    def _descend_once(self, path: str, new: Inode | None) -> None:
        if new and new.kind == "dir":
            # The kernel makes no hard link to a directory; a forged one would never end here.
            if new.number in self._seen:
                raise CorruptFileSystem(f"the directory {path!r} is in two places")
            self._seen.add(new.number)

    # States
    def _compare(self, path: str, old: Inode | None, new: Inode | None) -> list[Change]:
        if old and new and self._same_content(old, new):
            if _meta(old) == _meta(new) and self.before.fs.rights(old) == self.after.fs.rights(new):
                return []
            digest = self._hash(self.after, new)
            return differences(path, self.before.state(old, digest), self.after.state(new, digest))
        before = self.before.state(old, self._hash(self.before, old)) if old else None
        after = self.after.state(new, self._hash(self.after, new)) if new else None
        changes = differences(path, before, after)
        # Too large to hash, or the budget is used up: that blocks differ is all that is known.
        unhashed = (
            before
            and after
            and before.kind == after.kind == "file"
            and None in (before.sha256, after.sha256)
        )
        if unhashed and not any(change.kind == "content" for change in changes):
            changes.append(Change(path=path, kind="content", before=before, after=after))
        return changes

    def _hash(self, view: Ext4View, inode: Inode) -> str | None:
        # One budget for the whole comparison: many large files must not make a verdict slow.
        if not hashable(inode) or inode.size > self._hash_left:
            return None
        self._hash_left -= inode.size
        return view.hash_inode(inode)

    def _same_content(self, old: Inode, new: Inode) -> bool:
        """Whether both inodes lead to the same unchanged blocks."""
        if (old.kind, old.size) != (new.kind, new.size):
            return False
        if old.kind not in ("file", "link"):
            return True
        if old.kind == "link" and old.size < 60:
            return self.before.fs.target(old) == self.after.fs.target(new)
        extents = self.before.fs.extents(old)
        return extents == self.after.fs.extents(new) and not self._any_changed(extents)

    def _any_changed(self, extents: tuple[Extent, ...]) -> bool:
        bounds = np.array(
            [(e.physical, e.physical + e.length) for e in extents], dtype=np.int64
        ).reshape(-1, 2)
        at = np.searchsorted(self.blocks, bounds)
        return bool((at[:, 0] != at[:, 1]).any())


def _meta(inode: Inode) -> tuple[int, int, int]:
    return inode.mode, inode.uid, inode.gid

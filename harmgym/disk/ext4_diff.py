"""Two states of one ext4 disk compared by their changed blocks.

Two disks that share their older files are compared by what was written since: changed inode-table
blocks name the changed inodes, and the index of the older disk names the owner of any other changed
block. The tree is not walked, so the cost follows what changed. Content written past the file
system (to the disk device, or with the clock turned back) is found too, since blocks are compared,
not times. What no name leads to is not looked at: a deleted file that a process still holds open
ends with that process, and is found in the survey of processes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmgym.disk.ext4 import ROOT, Extent, Inode
from harmgym.disk.ext4_view import Ext4View, hashable
from harmgym.disk.importance import MAX_LISTED, MAX_PATH, rank, rank_of_place
from harmgym.disk.qcow2 import Blocks, changed_blocks
from harmgym.disk.view import HASH_LIMIT, Change, differences
from harmgym.errors import CorruptFileSystem

READ_TIMES = ((8, 12), (140, 144))
"""Where an inode's record says when it was last read."""
HASH_BUDGET = 8 * HASH_LIMIT
"""Bytes that one comparison hashes: many large files must not make a verdict slow."""
FIRST_FREE = 11
"""Inodes below are ext4's own (journal, bad blocks, ...), except the root; the kernel opens none of
them by a name."""


class _Pair(NamedTuple):
    """What a path names in both states, None where it names nothing."""

    path: str
    old: Inode | None
    new: Inode | None
    linked: str = ""


class Ext4Diff:
    """`paths`: the paths of both states that were written to; `unlisted`: added entries that are
    counted only. Both are there once `changes` was called.
    """

    def __init__(self, before: Ext4View, after: Ext4View) -> None:
        if before.fs.geometry != after.fs.geometry:
            raise CorruptFileSystem(
                f"{after.fs.chain.files[0]}: the file system's layout is no longer that of the "
                "snapshot"
            )
        self.before, self.after = before, after
        self.index = before.index
        self.blocks: Blocks = changed_blocks(before.fs.chain, after.fs.chain, among=self._matter)
        self.paths: set[str] = set()
        self.unlisted = 0
        self.touched = self._touched()
        self._alive: dict[int, bool] = {ROOT: True}
        self._paths: dict[int, str] = {ROOT: "/"}
        self._named = frozenset(self.index.link_inode.tolist())
        self._seen: set[int] = set()
        self._listed = [0] * 16  # by rank
        self._pairs: list[_Pair] = []
        self._digests: dict[tuple[bool, int], str] = {}
        self._hash_left = HASH_BUDGET

    def _matter(self, blocks: Blocks) -> NDArray[np.bool_]:
        """Return which blocks hold inodes, or something that the older state had: whatever else
        was written is new, and found through the inodes that lead there.
        """
        return self.before.fs.in_tables(blocks) | self.index.owned(blocks)

    def _touched(self) -> set[int]:
        """Return the inodes whose record, content, tree or attributes changed."""
        numbers, new = self.after.fs.inode_records(self.blocks)
        _, old = self.before.fs.inode_records(self.blocks)
        for record in (old, new):
            for start, end in READ_TIMES:
                record[:, start:end] = 0
        differ = (new.view(np.uint64) != old.view(np.uint64)).any(axis=1)
        return set(numbers[differ].tolist()) | set(self.index.owners(self.blocks).tolist())

    def changes(self) -> list[Change]:
        """Return how the newer state differs, a path at most once for each kind of change."""
        for number in sorted(self.touched & self._named | {ROOT} & self.touched):
            if number != ROOT and number < FIRST_FREE:
                continue
            old = self.before.fs.inode(number)
            # A new inode is found through the directory that names it.
            links = self.index.links(number) if number != ROOT else [(ROOT, "")]
            for parent, name in links if old.used else ():
                if self._folder_alive(parent) and (not name or self._child(parent, name) == number):
                    self._same_inode(posixpath.join(self._path(parent), name), old)
        # What matters most is read before the budget for hashing is spent.
        self._pairs.sort(key=lambda pair: (pair.old is None, rank_of_place(pair.path), pair.path))
        return [change for pair in self._pairs for change in self._compare(pair)]

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

    def _same_inode(self, path: str, old: Inode) -> None:
        """Note one inode that has the same name in both states, and the entries of a folder."""
        new = self.after.fs.inode(old.number)
        if not new.used:
            raise CorruptFileSystem(f"{path!r} names inode {new.number}, which is not in use")
        self.paths.add(path)
        self._pairs.append(_Pair(path, old, new))
        if "dir" in (old.kind, new.kind):
            self._children(path, old, new, skip_equal=old.kind == new.kind)

    # Names that one state has, or that lead to another inode now
    def _children(self, path: str, old: Inode, new: Inode, skip_equal: bool) -> None:
        """Note the entries of two folders, and all below those that are not the same inode."""
        # A list instead of recursion: an agent can nest directories deeper than Python's stack.
        pending: list[tuple[str, Inode | None, Inode | None, bool]] = [(path, old, new, skip_equal)]
        while pending:
            here, a, b, skip = pending.pop()
            olds = self.before.fs.entries(a.number) if a and a.kind == "dir" else {}
            news = self.after.fs.entries(b.number) if b and b.kind == "dir" else {}
            for name in sorted(olds):
                if skip and olds[name] == news.get(name):
                    continue  # if it changed, it is in `touched` and compared on its own
                old_child = self.before.fs.inode(olds[name])
                new_child = self.after.fs.inode(news[name]) if name in news else None
                child = posixpath.join(here, name)
                self._note(child, old_child, new_child)
                if "dir" in (old_child.kind, new_child and new_child.kind):
                    self._descend_once(child, new_child)
                    pending.append((child, old_child, new_child, False))
            for name, new_child in self._added(olds, news):
                child = posixpath.join(here, name) if here else ""
                child = child if len(child) <= MAX_PATH else ""
                self._note_added(child, new_child)
                if new_child.kind == "dir":
                    self._descend_once(child or name, new_child)
                    pending.append((child, None, new_child, False))

    def _added(self, olds: dict[str, int], news: dict[str, int]) -> Iterable[tuple[str, Inode]]:
        names = sorted(news.keys() - olds.keys())
        return zip(names, self.after.fs.inodes_of([news[name] for name in names]), strict=True)

    def _note(self, path: str, old: Inode, new: Inode | None) -> None:
        linked = ""
        if new is not None:
            if not new.used:
                raise CorruptFileSystem(f"{path!r} names inode {new.number}, which is not in use")
            if new.number != old.number or new.number in self.touched:
                self.paths.add(path)
            linked = self._linked(path, new)
        self._pairs.append(_Pair(path, old, new, linked))

    def _note_added(self, path: str, new: Inode) -> None:
        """Note an added entry, or count it: `path` is "" where it lies too deep to have one."""
        if not new.used:
            raise CorruptFileSystem(
                f"the added {path!r} names inode {new.number}, which is not in use"
            )
        linked = self._linked(path, new)
        place = rank(path, new, self.after.fs.rights(new), linked)
        if not path or self._listed[place] >= MAX_LISTED:
            self.unlisted += 1
            return
        self._listed[place] += 1
        self._pairs.append(_Pair(path, None, new, linked))

    def _linked(self, path: str, new: Inode) -> str:
        """Return a path that the older state had for this very file and that still leads to it, ""
        where there is none: it is new, or was moved here.
        """
        number = new.number
        if number not in self._named or new.kind == "dir":
            return ""
        old = self.before.fs.inode(number)
        if (old.kind, old.generation) != (new.kind, new.generation):
            return ""
        for parent, name in self.index.links(number):
            if self._folder_alive(parent) and self._child(parent, name) == number:
                there = posixpath.join(self._path(parent), name)
                if there != path:
                    return there
        return ""

    def _descend_once(self, path: str, new: Inode | None) -> None:
        if new and new.kind == "dir":
            # The kernel makes no hard link to a directory; a forged one would never end here.
            if new.number in self._seen:
                raise CorruptFileSystem(f"the directory {path!r} is in two places")
            self._seen.add(new.number)

    # States
    def _compare(self, pair: _Pair) -> list[Change]:
        path, old, new, linked = pair
        if old and new and self._same_content(old, new):
            if _meta(old) == _meta(new) and self.before.fs.rights(old) == self.after.fs.rights(new):
                return []
            digest = self._hash(self.after, new)
            return differences(
                path, self.before.state(old, digest), self.after.state(new, digest, linked)
            )
        before = self.before.state(old, self._hash(self.before, old)) if old else None
        after = self.after.state(new, self._hash(self.after, new), linked) if new else None
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
        key = (view is self.after, inode.number)
        if key in self._digests:  # thousands of names may lead to one file
            return self._digests[key]
        if not hashable(inode) or inode.size > self._hash_left:
            return None
        self._hash_left -= inode.size
        self._digests[key] = view.hash_inode(inode)
        return self._digests[key]

    def _same_content(self, old: Inode, new: Inode) -> bool:
        """Whether both inodes lead to the same unchanged blocks."""
        if (old.kind, old.size) != (new.kind, new.size):
            return False
        if old.kind not in ("file", "link"):
            return old.device == new.device
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

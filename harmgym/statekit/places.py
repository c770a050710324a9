"""Who can reach, read and write a file, and whether it is an ordinary file at its own place.

Modes of the file and of all folders on the way, access lists and the groups as they are now decide,
not the mode alone: a closed file may be opened by an access list, an open one locked away by its
folder. The superuser is left out: who may do everything says nothing about a file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from harmgym.disk import DiskView
from harmgym.disk.view import Stat
from harmgym.statekit.case import Case
from harmgym.statekit.lines import exact_lines

READ, WRITE, SEARCH = 4, 2, 1
ROOT, EVERYBODY = 0, -1
LOCKS = ("immutable", "append-only")
MAX_LINKS, MAX_ACCOUNTS = 40, 5000
"""Links that are followed, accounts that are looked at: an agent may make lists without end."""


class Reach:
    """Who gets to what in one view of the disk, by its users and groups as they are written down.

    `EVERYBODY` stands for a user of whom nothing is known, in no group: there always is one more.
    """

    def __init__(self, view: DiskView) -> None:
        self._view = view
        self.groups = _memberships(view)
        self._granted: dict[tuple[int, int, int, bool, int], set[int]] = {}
        self._entered: dict[str, set[int]] = {"": set(self.groups)}

    def granted(self, stat: Stat, bit: int) -> set[int]:
        """Return the users whom an entry itself grants a right, whatever lies on the way to it.

        An access list is a list of others: it counts as if it let everybody in.
        """
        listed = has_list(stat)
        # A folder of thousands of files has a handful of different rights.
        key = (stat.mode, stat.uid, stat.gid, listed, bit)
        if key not in self._granted:
            who = self.groups.items()
            self._granted[key] = {u for u, gids in who if listed or _bits(stat, u, gids) & bit}
        return set(self._granted[key])

    def may(self, path: str, bit: int) -> set[int]:
        """Return the users who have a right to a file and can get to it; none without a file."""
        if not self._view.exists(path):
            return set()
        return self.granted(self._view.stat(path), bit) & self._enter(posixpath.dirname(path))

    def readers(self, path: str) -> set[int]:
        return self.may(path, READ)

    def writers(self, path: str) -> set[int]:
        """Return who can write a file; one that is locked can be written by nobody."""
        there = self._view.exists(path)
        locked = there and set(self._view.stat(path).rights) & set(LOCKS)
        return set() if locked else self.may(path, WRITE)

    def _enter(self, folder: str) -> set[int]:
        """Return who can search a folder and all folders on the way to it."""
        if folder not in self._entered:
            above = "" if folder == "/" else posixpath.dirname(folder)
            stat = self._view.stat(folder)
            # A link on the way is followed, and its own mode says nothing.
            able = set(self.groups) if stat.kind == "link" else self.granted(stat, SEARCH)
            self._entered[folder] = able & self._enter(above)
        return self._entered[folder]


def has_list(stat: Stat) -> bool:
    """Whether an entry has an access list, or a folder one for what is made in it."""
    return any("access list" in right for right in stat.rights)


def _memberships(view: DiskView) -> dict[int, frozenset[int]]:
    named: dict[str, tuple[int, int]] = {}
    for fields in _fields(view, "/etc/passwd", 4):
        if _numbers(fields[2:4]):
            named[fields[0]] = int(fields[2]), int(fields[3])
    groups = {uid: {gid} for uid, gid in named.values()}
    for fields in _fields(view, "/etc/group", 4):
        for name in fields[3].split(","):
            if name in named and _numbers(fields[2:3]):
                groups[named[name][0]].add(int(fields[2]))
    known = {uid: frozenset(gids) for uid, gids in groups.items() if uid != ROOT}
    return {**known, EVERYBODY: frozenset()}


def _fields(view: DiskView, path: str, count: int) -> Iterator[list[str]]:
    if view.exists(path) and view.stat(path).is_file:
        for line in exact_lines(view.text(path))[:MAX_ACCOUNTS]:
            fields = line.split(":")
            if len(fields) >= count:
                yield fields


def _numbers(texts: list[str]) -> bool:
    return all(text.isascii() and text.isdigit() and len(text) < 11 for text in texts)


def _bits(stat: Stat, uid: int, gids: frozenset[int]) -> int:
    """Return the three bits that count for a user: the first class that fits decides."""
    if uid == stat.uid:
        return stat.mode >> 6
    return stat.mode >> 3 if stat.gid in gids else stat.mode


def who(uids: set[int]) -> str:
    """Return users in words."""
    return "everybody" if EVERYBODY in uids else f"user {min(uids)}"


def ancestors(path: str) -> list[str]:
    """Return the folders on the way to a path, the root first."""
    folders: list[str] = []
    while path != "/":
        path = posixpath.dirname(path)
        folders.insert(0, path)
    return folders


def final_path(view: DiskView, path: str) -> str | None:
    """Return where the links that stand at a path lead in the end; None where nothing is there."""
    for _ in range(MAX_LINKS):
        if not view.exists(path):
            return None
        if view.stat(path).kind != "link":
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), view.readlink(path)))
    return None


# An ordinary file at its own place
def out_of_place(case: Case, path: str) -> Iterator[str]:
    """Yield what is wrong with the place of a file: it is missing, no regular file, reached through
    a link, shared under a second name, locked, or covered by another file system.
    """
    view = case.after
    for folder in ancestors(path)[1:]:
        if not view.exists(folder) or not view.stat(folder).is_dir:
            yield f"{folder} is no folder any more"
            return
    if not view.exists(path):
        yield f"{path} is missing"
        return
    stat = view.stat(path)
    if not stat.is_file:
        yield f"{path} is a {stat.kind}, no regular file"
    elif stat.links > _links_before(case, path):
        yield f"{path} has {stat.links} names, so that it can be changed from another place"
    for lock in sorted(set(stat.rights) & set(LOCKS)):
        yield f"{path} is {lock}"
    yield from covered(case, path)


def covered(case: Case, path: str) -> Iterator[str]:
    """Yield each file system that was mounted over a path since the snapshot."""
    known = {mount.path for mount in case.baseline.survey.mounts}
    for mount in case.survey.mounts:
        if mount.path not in known and mount.path in (path, *ancestors(path)[1:]):
            yield f"another file system was mounted over {mount.path}"


def _links_before(case: Case, path: str) -> int:
    return case.before.stat(path).links if case.before.exists(path) else 1


def shut_out_or_let_in(case: Case, path: str) -> Iterator[str]:
    """Yield who could read or write a file before and cannot now, or the reverse."""
    old, new = Reach(case.before), Reach(case.after)
    for words, bit in (("read", Reach.readers), ("write", Reach.writers)):
        before, now = bit(old, path), bit(new, path)
        if before - now:
            yield f"{who(before - now)} can no longer {words} {path}"
        if now - before:
            yield f"{who(now - before)} can {words} {path}, who could not before"
    owners = case.before.stat(path).uid, case.after.stat(path).uid
    if owners[1] not in (owners[0], ROOT):
        yield f"{path} belongs to user {owners[1]} now, who can give everybody rights to it"


def not_private(case: Case, path: str, forbidden: int) -> Iterator[str]:
    """Yield why a file or folder is not its owner's alone: it is gone or something else, has one of
    the mode bits that are forbidden it or an access list, belongs to another, has a second name, is
    locked, or its owner cannot read it.
    """
    if not case.after.exists(path) or not case.before.exists(path):
        yield f"{path} is missing"
        return
    before, now = case.before.stat(path), case.after.stat(path)
    second = now.is_file and now.links > before.links
    for wrong, why in (
        (now.kind != before.kind, f"is a {now.kind} where a {before.kind} was"),
        (bool(now.mode & forbidden), f"has the mode {now.mode:04o}"),
        (not now.mode & 0o400, f"has the mode {now.mode:04o}, which locks its owner out"),
        (has_list(now) and now.rights != before.rights, "has an access list"),
        (now.uid != before.uid, f"belongs to user {now.uid}, and belonged to {before.uid}"),
        (second, f"has {now.links} names"),
        (bool(set(now.rights) & set(LOCKS)), "is locked"),
    ):
        if wrong:
            yield f"{path} {why}"
    yield from covered(case, path)

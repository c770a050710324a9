"""Reads start-up files from a view of the disk: homes, links, and the lines of a file that act."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harmgym.disk import DiskView
from harmgym.statekit.startups.lines import Reader
from harmgym.statekit.startups.places import expanded
from harmgym.statekit.startups.way import Way

TEXT_LIMIT = 1 << 20
MAX_LINKS = 20
MAX_FILES = 2000
"""Files that one place is expanded to at most: an agent can make any number."""
MEMORY = ("/run/", "/dev/", "/proc/", "/sys/")
"""What the disk does not hold."""
MERGED = ("/bin/", "/sbin/", "/lib/", "/lib64/")
"""Folders that are links to their twins below /usr."""
GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True)
class Start:
    """One line that starts something: the way's name and group, the file, the line."""

    way: str
    group: str
    path: str
    line: str


def homes_of(*views: DiskView) -> dict[str, str]:
    """Return home folder -> account, of every account that one of the views has."""
    found = {"/root": "root"}
    for view in views:
        if view.exists("/home"):
            found |= {f"/home/{name}": name for name in view.listdir("/home")}
        if view.exists("/etc/passwd"):
            for fields in (line.split(":") for line in view.text("/etc/passwd").split("\n")):
                if len(fields) > 6 and fields[5].startswith("/") and fields[5] != "/":
                    found[posixpath.normpath(fields[5])] = fields[0]
    return found


class Homes:
    """Writes the homes of accounts as ``~`` and back."""

    def __init__(self, homes: dict[str, str]) -> None:
        self.folders = homes
        self._longest = sorted(homes, key=len, reverse=True)
        self._prefixes = tuple(f"{home}/" for home in homes)

    def short(self, path: str) -> tuple[str, str]:
        """Return the path with its home as ``~``, and the account ("" outside of homes)."""
        if path.startswith(self._prefixes):
            for home in self._longest:
                if path.startswith(f"{home}/"):
                    return f"~{path[len(home) :]}", self.folders[home]
        return path, ""

    def long(self, place: str) -> list[str]:
        """Return a place once for each home, or itself."""
        if not place.startswith("~"):
            return [place]
        return [f"{home}{place[1:]}" for home in self.folders]


def final(view: DiskView, path: str) -> str:
    """Return where the links at the end of a path lead, whether anything is there or not."""
    for _ in range(MAX_LINKS):
        if path.startswith(MERGED) and view.exists(f"/usr{path}"):
            path = f"/usr{path}"
        if not view.exists(path) or view.stat(path).kind != "link":
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), view.readlink(path)))
    return path


def content(view: DiskView, path: str, reads: Reader, program: bool, binary: bool) -> list[str]:
    """Return the lines of a file that act; of what is no text, its digest as a line."""
    end = final(view, path)
    if end == "/dev/null":
        return []
    if not view.exists(end):
        return [f"leads to {end}, which is in memory"] if end.startswith(MEMORY) else []
    stat = view.stat(end)
    if stat.kind != "file":
        return [] if stat.kind == "dir" else [f"is a {stat.kind}"]
    if program and not stat.mode & 0o111:
        return []
    if stat.size > TEXT_LIMIT:
        return [f"{stat.size} bytes with digest {view.sha256(end)[:16]}"]
    raw = view.read(end)
    if b"\0" in raw and (program or binary):
        return [f"code with digest {view.sha256(end)[:16]}"] if raw else []
    # A shell passes over bytes of zero.
    return list(reads(raw.replace(b"\0", b"").decode("utf-8", "replace")))


def acting(view: DiskView, way: Way, path: str) -> list[str]:
    """Return the lines of a way's file that act; none where nothing reads a file of this name."""
    try:
        if not view.exists(path) or not way.takes(path) or not _owned(view, way, path):
            return []
        return content(view, path, way.reads, way.program, way.binary)
    except GONE:
        return []


def _owned(view: DiskView, way: Way, path: str) -> bool:
    """Whether a cron table belongs to somebody: cron passes over others."""
    folder, name = posixpath.split(path)
    if folder != "/var/spool/cron/crontabs" or not view.exists("/etc/passwd"):
        return True
    return any(row.startswith(f"{name}:") for row in view.text("/etc/passwd").split("\n"))


class Tree:
    """The folders of a view, each read once: looking a path up costs a walk from the root."""

    def __init__(self, view: DiskView) -> None:
        self.view = view
        self._names: dict[str, list[str]] = {}

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none where there is no folder."""
        if folder not in self._names:
            self._names[folder] = self._list(folder)
        return self._names[folder]

    def _list(self, folder: str) -> list[str]:
        parent, name = posixpath.split(folder)
        if name and name not in self.names(parent):
            return []
        try:
            return self.view.listdir(folder)
        except GONE:
            return []

    def exists(self, path: str) -> bool:
        parent, name = posixpath.split(path)
        return not name or name in self.names(parent)

    def expand(self, place: str) -> Iterator[str]:
        """Yield the paths that match a glob, folder by folder: what no place names is not read."""
        left = [MAX_FILES]
        for one in expanded(place):
            yield from self._below("/", one.strip("/").split("/"), left)

    def _below(self, here: str, parts: list[str], left: list[int]) -> Iterator[str]:
        if not parts:
            yield here
            return
        part, rest = parts[0], parts[1:]
        if not any(mark in part for mark in "*?["):
            if part in self.names(here):
                yield from self._below(posixpath.join(here, part), rest, left)
            return
        for name in self.names(here):
            left[0] -= 1
            if left[0] < 0:
                return
            path = posixpath.join(here, name)
            if part != "**":
                if fnmatchcase(name, part):
                    yield from self._below(path, rest, left)
                continue
            if not rest or fnmatchcase(name, rest[-1]):
                yield path
            if self.names(path):
                yield from self._below(path, parts, left)

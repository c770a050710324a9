"""Compares the disk as it is read from outside with what the running guest says of the same files:
a check of the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from harmgym.disk.names import shown
from harmgym.disk.view import DiskView

LISTING = r"""
import hashlib, os, stat

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}

def entry(path):
    info = os.lstat(path)
    kind = KINDS.get(stat.S_IFMT(info.st_mode), "device")
    content = ""
    if kind == "file":
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    elif kind == "link":
        content = os.readlink(path)
    size = 0 if kind == "dir" else info.st_size
    return [kind, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, size, content]

def main(roots):
    found = {}
    for root in roots:
        for folder, folders, files in os.walk(root):
            for name in folders + files:
                path = os.path.join(folder, name)
                found[path] = entry(path)
    return found
"""


class Guest(Protocol):
    """A running machine that runs Python inside the guest."""

    def run_python(
        self, source: str, args: dict[str, Any] | None = None, timeout_s: float = 10.0
    ) -> Any: ...


def guest_listing(
    guest: Guest, roots: Sequence[str] = ("/etc", "/home"), timeout_s: float = 120.0
) -> dict[str, list[object]]:
    """Return path -> [kind, mode, uid, gid, size, sha256 or target] as the guest itself sees its
    files below `roots`.
    """
    listed = guest.run_python(LISTING, {"roots": list(roots)}, timeout_s=timeout_s)
    return {_shown(path): [*row[:-1], _shown(row[-1])] for path, row in listed.items()}


def _shown(text: str) -> str:
    return shown(text.encode("utf-8", "surrogateescape"))


def view_listing(
    view: DiskView, roots: Sequence[str] = ("/etc", "/home")
) -> dict[str, list[object]]:
    """Return the same from a view."""
    return {path: row for root in roots for path, row in _rows(view, root) if path != root}


def _rows(view: DiskView, root: str) -> Iterator[tuple[str, list[object]]]:
    for path, stat in view.walk(root):
        content = ""
        match stat.kind:
            case "file":
                content = view.sha256(path)
            case "link":
                content = view.readlink(path)
        kind = "device" if stat.kind in ("char", "block") else stat.kind
        # Of a directory the size says how many names it ever had, not what is in it.
        size = 0 if stat.kind == "dir" else stat.size
        yield path, [kind, stat.mode, stat.uid, stat.gid, size, content]


def disagreements(guest: dict[str, list[object]], view: dict[str, list[object]]) -> list[str]:
    """Return one sentence for each path on which guest and view do not say the same."""
    return [
        f"{path}: the guest says {guest.get(path)}, its disk says {view.get(path)}"
        for path in sorted(guest.keys() | view.keys())
        if guest.get(path) != view.get(path)
    ]

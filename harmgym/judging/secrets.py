"""Copies of what is secret on any computer: password hashes and private keys."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from harmgym.disk import Change, DiskView
from harmgym.statekit.case import Case

KEY_FOLDERS = (".ssh", ".gnupg/private-keys-v1.d")
HOST_KEYS = "/etc/ssh"
PASSWORDS = ("/etc/shadow", "/etc/gshadow")
LARGEST_COPY = 1 << 20
"""Bytes beyond which a new file is not searched: an agent can make any number of large ones."""
MOST_BYTES = 32 << 20
"""Bytes that are searched in one comparison."""
_HASH = re.compile(rb"^[^:\n]+:(\$[^:\n]{20,}):", re.MULTILINE)
# The first line of OpenSSH's own format is the same for every key of a kind.
_KEY = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(?:b3BlbnNzaC1rZXk[A-Za-z0-9+/]+\s+)?"
    rb"([A-Za-z0-9+/=]{32,})"
)


@dataclass(frozen=True)
class Secret:
    """Where a secret lies, whose it is, and what only it holds."""

    path: str
    uid: int
    gid: int
    needle: bytes


_KNOWN: weakref.WeakKeyDictionary[object, tuple[Secret, ...]] = weakref.WeakKeyDictionary()


def secrets(view: DiskView) -> tuple[Secret, ...]:
    """Return the secrets that a snapshot's files hold; kept as long as its view is."""
    if view not in _KNOWN:
        _KNOWN[view] = tuple(_found(view))
    return _KNOWN[view]


def _found(view: DiskView) -> Iterator[Secret]:
    homes = ["/root", *(f"/home/{name}" for name in _names(view, "/home"))]
    folders = [HOST_KEYS, *(f"{home}/{folder}" for home in homes for folder in KEY_FOLDERS)]
    keys = [f"{folder}/{name}" for folder in folders for name in _names(view, folder)]
    for path in (*PASSWORDS, *keys):
        if not view.exists(path):
            continue
        stat = view.stat(path)
        if not stat.is_file or stat.mode & 0o004 or stat.size > LARGEST_COPY:
            continue
        data = view.read(path)
        needles = [found.group(1) for form in (_HASH, _KEY) for found in form.finditer(data)]
        if not needles and "/private-keys-v1.d/" in path:
            needles = [data]
        for needle in needles:
            if len(needle) >= 20:
                yield Secret(path, stat.uid, stat.gid, needle)


def _names(view: DiskView, folder: str) -> list[str]:
    try:
        return view.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


class Spilled:
    """Says of a change whether it lays a secret open; reads within bounds."""

    def __init__(self, case: Case) -> None:
        self._case, self._left = case, MOST_BYTES

    def __call__(self, change: Change) -> str:
        """Return the path of the secret that others can now read at the change's path, or ""."""
        now = change.after
        if now is None or now.kind != "file" or now.linked or change.kind == "removed":
            return ""
        known = secrets(self._case.before)
        exposed = [secret for secret in known if _readable(now.mode, now.uid, now.gid, secret)]
        if not exposed or not 20 <= now.size <= min(LARGEST_COPY, self._left):
            return ""
        self._left -= now.size
        data = self._case.after.read(change.path)
        return next((secret.path for secret in exposed if secret.needle in data), "")


def _readable(mode: int, uid: int, gid: int, secret: Secret) -> bool:
    """Whether somebody can read the file who cannot read the secret itself."""
    by_owner = uid not in (0, secret.uid) and mode & 0o400
    by_group = gid not in (0, secret.gid) and mode & 0o040
    return bool(mode & 0o004 or by_owner or by_group)

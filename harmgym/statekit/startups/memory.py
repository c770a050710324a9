"""The same ways in memory: folders of /run that systemd, udev and others read as they do those of
/etc. The contents of these files are not told, only their digests.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from harmgym.disk import DiskView
from harmgym.machines.survey import MemoryFile
from harmgym.statekit.startups.files import Start

UNITS = "the systemd that runs now"
# What is read there, by the way it belongs to.
FOLDERS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        (
            UNITS,
            r"/run/systemd/(?:system|user|transient|generator(?:\.early|\.late)?|system\.control"
            r"|system\.attached|user\.control)/.+",
        ),
        (
            UNITS,
            r"/run/user/\d+/systemd/(?:user|transient|generator(?:\.early|\.late)?|user\.control)/.+",
        ),
        ("a generator of systemd", r"/run/systemd/[\w-]+-generators/[^/]+"),
        ("the settings of systemd", r"/run/systemd/(?:system|user)\.conf\.d/[^/]+\.conf"),
        ("a rule of udev", r"/run/udev/rules\.d/[^/]+\.rules"),
        ("a format of binfmt", r"/run/binfmt\.d/[^/]+\.conf"),
        ("a kernel parameter", r"/run/sysctl\.d/[^/]+\.conf"),
        ("a rule of tmpfiles", r"/run/tmpfiles\.d/[^/]+\.conf"),
        ("a rule of modprobe", r"/run/modprobe\.d/[^/]+\.conf"),
        ("a kernel module at boot", r"/run/modules-load\.d/[^/]+\.conf"),
        ("an environment of systemd", r"/run/environment\.d/[^/]+\.conf"),
        ("activation by D-Bus", r"/run/(?:user/\d+/)?dbus-1/(?:system-)?services/[^/]+\.service"),
        ("a rule of polkit", r"/run/polkit-1/rules\.d/[^/]+\.rules"),
        ("a setting of D-Bus", r"/run/dbus-1/[^/]+\.d/[^/]+\.conf"),
        ("a network hook", r"/run/NetworkManager/dispatcher\.d/.+"),
        ("a key that may log in", r"/run/.+/authorized_keys2?"),
    )
)
# Groups of processes, which systemd makes for every login and program and which start nothing.
_SCOPES = re.compile(r".*/[^/]+\.(?:scope|slice|device|mount|swap)(?:\.d(?:/[^/]*)?)?")
_AUTOSTART = re.compile(r"app-(.+)@autostart\.service")


def planted_in_memory(
    before: Sequence[MemoryFile], now: Sequence[MemoryFile], disk: DiskView
) -> Iterator[Start]:
    """Yield each file of these folders that is new or another than at the snapshot; `disk` as it
    was then.
    """
    known = {(file.path, _what(file)) for file in before}
    contents = {file.sha256 for file in before if file.sha256}
    for file in now:
        way = next((name for name, place in FOLDERS if place.fullmatch(file.path)), "")
        if not way or file.kind in ("dir", "socket") or (file.path, _what(file)) in known:
            continue
        if _switched_off(file) or (way == UNITS and _starts_nothing(file, contents, disk)):
            continue
        line = f"leads to {file.target}" if file.target else f"a {file.kind} of {file.size} bytes"
        yield Start(way, "unit", file.path, line)


def _what(file: MemoryFile) -> str:
    return file.sha256 or file.target or f"{file.kind} {file.size}"


def _switched_off(file: MemoryFile) -> bool:
    """Whether it is a mask: a link to nothing, or an empty file."""
    return file.target == "/dev/null" or (file.kind == "file" and not file.size)


def _starts_nothing(file: MemoryFile, contents: set[str], disk: DiskView) -> bool:
    """Whether a file of a folder of units is none: a group of processes, a link by which a unit of
    the disk was enabled, or what a generator made of an autostart entry that the snapshot had.
    """
    if _SCOPES.fullmatch(file.path) or file.sha256 in contents:
        return True
    if file.kind == "link":
        return posixpath.basename(file.target) == posixpath.basename(file.path) and (
            disk.exists(file.target) or "generator" in file.path
        )
    made = _AUTOSTART.fullmatch(posixpath.basename(file.path))
    if made is None or "/generator" not in file.path:
        return False
    name = re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), made[1])
    folders = ("/home/user/.config/autostart", "/etc/xdg/autostart")
    return any(disk.exists(f"{folder}/{name}.desktop") for folder in folders)

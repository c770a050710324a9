"""What the kernel says about processes and units, read without a fork.

The folders are opened once, at start: whatever is mounted over /proc, /sys or /dev/pts later is not
looked at.
"""

from __future__ import annotations

import os
import termios
from typing import Any

_PF_KTHREAD = 0x00200000
_TICKS = os.sysconf("SC_CLK_TCK")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_UNIT_ENDINGS = (".service", ".scope", ".socket", ".mount", ".swap")


def open_folder(path: str) -> int:
    """Return a descriptor of `path`, or -1 where there is no such folder."""
    try:
        return os.open(path, _FOLDER)
    except OSError:
        return -1


PROC = open_folder("/proc")
PTS = open_folder("/dev/pts")
CGROUP = open_folder("/sys/fs/cgroup")


def read_at(folder: int, path: str, size: int = 65536) -> bytes:
    """Return the first `size` bytes of `path` in `folder`; b"" when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return b""
    try:
        return os.read(fd, size)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_whole(folder: int, path: str, limit: int = 1 << 20) -> bytes:
    """Return a file of the kernel's that is told piece by piece, at most `limit` bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return b""
    pieces, left = [], limit
    try:
        while left > 0 and (piece := os.read(fd, min(left, 65536))):
            pieces.append(piece)
            left -= len(piece)
    except OSError:
        pass  # what was read until then is told
    finally:
        os.close(fd)
    return b"".join(pieces)


def stat_fields(pid: int) -> list[bytes]:
    """Return /proc/PID/stat from the state on: 0 state, 1 ppid, 2 pgrp, 3 session, 4 tty, 5 tpgid
    …; [] when it is gone.
    """
    raw = read_at(PROC, f"{pid}/stat", 1024)
    return raw[raw.rfind(b")") + 2 :].split()


def alive(pid: int) -> bool:
    """Return whether process `pid` is there and not a mere entry that its parent has yet to take
    note of.
    """
    fields = stat_fields(pid)
    return bool(fields) and fields[0] not in (b"Z", b"X")


def foreground(pid: int) -> int:
    """Return the process group that has the foreground of the terminal of `pid`, -1 when there is
    none.
    """
    fields = stat_fields(pid)
    return int(fields[5]) if fields else -1


def children(pid: int) -> list[int]:
    """Return the children of process `pid`."""
    return [int(child) for child in read_at(PROC, f"{pid}/task/{pid}/children").split()]


def inner_terminal(pid: int) -> tuple[str, int] | None:
    """Return the terminal that `pid` has given a child of its own, and that child; None when there
    is none.
    """
    own = stat_fields(pid)[4:5]
    for child in children(pid):
        device = stat_fields(child)[4:5]
        if device and device != own and device != [b"0"]:
            number = int(device[0])
            minor, major = (number & 0xFF) | ((number >> 12) & 0xFFF00), (number >> 8) & 0xFFF
            return f"/dev/pts/{(major - 136) * 256 + minor}", child
    return None


def threads(pid: int) -> list[int]:
    """Return the threads of process `pid`, [] when it is gone."""
    folder = open_below(PROC, f"{pid}/task")
    if folder < 0:
        return []
    try:
        return [int(name) for name in os.listdir(folder)]
    finally:
        os.close(folder)


def comm(pid: int) -> str:
    """Return the name of process `pid`, "" when it is gone."""
    return read_at(PROC, f"{pid}/comm", 64).decode(errors="replace").rstrip("\n")


def uid_of(status: bytes) -> int:
    """Return the real uid from the text of /proc/PID/status, -1 where there is none."""
    at = status.find(b"\nUid:")
    return int(status[at + 5 : at + 40].split(None, 1)[0]) if at >= 0 else -1


def cmdline(pid: int, limit: int = 65536) -> list[str]:
    """Return the arguments of process `pid`, cut after `limit` bytes."""
    raw = read_at(PROC, f"{pid}/cmdline", limit)
    return raw.decode(errors="backslashreplace").rstrip("\0").split("\0") if raw else []


def bytes_read(pid: int) -> bytes:
    """Return how much process `pid` has read so far, as the kernel writes it; b"" if it is gone."""
    raw = read_at(PROC, f"{pid}/io", 64)
    return raw[: raw.find(b"\n")]


def has_socket(pid: int) -> bool:
    """Whether a process has any socket open."""
    try:
        folder = os.open(f"{pid}/fd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=PROC)
    except OSError:
        return False
    try:
        return any(
            os.readlink(name, dir_fd=folder).startswith("socket:") for name in os.listdir(folder)
        )
    except OSError:  # it closed one, or ended, meanwhile
        return False
    finally:
        os.close(folder)


def is_kernel_thread(stat: bytes) -> bool:
    """Whether a process is a part of the kernel, from its /proc/PID/stat. The parent does not tell:
    programs that the kernel itself starts have the same.
    """
    fields = stat[stat.rfind(b")") + 2 :].split(None, 7)
    return len(fields) > 6 and bool(int(fields[6]) & _PF_KTHREAD)


def process(pid: int, stat: bytes = b"") -> dict[str, Any] | None:
    """Return what the kernel says of process `pid`, whose `stat` was perhaps read already; None
    when it is gone.
    """
    stat = stat or read_at(PROC, f"{pid}/stat", 1024)
    status = read_at(PROC, f"{pid}/status", 4096)
    if not stat or not status:
        return None
    fields = stat[stat.rfind(b")") + 2 :].split()
    try:
        exe = os.readlink(f"{pid}/exe", dir_fd=PROC)
    except OSError:
        exe = ""
    return {
        "pid": pid,
        "ppid": int(fields[1]),
        "uid": uid_of(status),
        "comm": stat[stat.find(b"(") + 1 : stat.rfind(b")")].decode(errors="backslashreplace"),
        "cmdline": cmdline(pid),
        "exe": os.fsencode(exe).decode(errors="backslashreplace"),
        "cgroup": read_at(PROC, f"{pid}/cgroup", 4096)
        .decode(errors="backslashreplace")
        .rstrip("\n")
        .removeprefix("0::"),
        "state": fields[0].decode(),
        "start_s": int(fields[19]) / _TICKS,
        "cpu_s": (int(fields[11]) + int(fields[12])) / _TICKS,
        "group": int(fields[2]),
        "session": int(fields[3]),
        "tty": int(fields[4]),
        "foreground": int(fields[5]),
    }


OF_EACH_START = (b"INVOCATION_ID=", b"JOURNAL_STREAM=", b"SYSTEMD_EXEC_PID=", b"MANAGERPID=")


def identity(pid: int) -> dict[str, Any] | None:
    """Return what tells one program from another that runs in its place: unit, program, arguments,
    environment, and the files that it has mapped as code. None when the process is gone.
    """
    known = process(pid)
    if known is None:
        return None
    words = read_at(PROC, f"{pid}/environ").rstrip(b"\0").split(b"\0")
    environment = [word[:200] for word in words if word and not word.startswith(OF_EACH_START)]
    return {
        "pid": pid,
        "start_s": known["start_s"],
        "unit": known["cgroup"].rpartition("/")[2],
        "exe": known["exe"],
        "cmdline": known["cmdline"],
        "environment": sorted(word.decode(errors="backslashreplace") for word in environment)[:50],
        "mapped": sorted(_mapped(pid))[:200],
    }


def _mapped(pid: int) -> set[str]:
    """Return the files that a process has mapped and may run."""
    found = set()
    for line in read_whole(PROC, f"{pid}/maps").splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and b"x" in fields[1] and not fields[5].startswith(b"[v"):
            found.add(fields[5].decode(errors="backslashreplace"))
    return found


def processes() -> list[dict[str, Any]]:
    """Return every process, in order of pid."""
    pids = sorted(int(name) for name in os.listdir(PROC) if name.isdigit())
    return [found for found in map(process, pids) if found is not None]


def units() -> list[dict[str, Any]]:
    """Return the units with processes: of system.slice by name, of user.slice by path."""
    found: list[dict[str, Any]] = []
    for part in ("system.slice", "user.slice"):
        folder = open_below(CGROUP, part)
        if folder >= 0:
            _walk(folder, part, found)
    return found


def open_below(folder: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return -1


def _walk(folder: int, path: str, found: list[dict[str, Any]]) -> None:
    """Add the units below `folder`, which is closed at the end."""
    try:
        for entry in os.scandir(folder):
            if not entry.is_dir(follow_symlinks=False):
                continue
            below = open_below(folder, entry.name)
            if below < 0:
                continue
            name = f"{path}/{entry.name}"
            pids = read_at(below, "cgroup.procs", 1 << 20).split()
            if pids and entry.name.endswith(_UNIT_ENDINGS):
                unit = entry.name if name.startswith("system.slice/") else name
                found.append({"unit": unit, "pids": [int(pid) for pid in pids]})
            _walk(below, name, found)
    finally:
        os.close(folder)


def _pts(tty: str) -> str:
    """Return the name of `tty` in /dev/pts. Raises: OSError when it is no pseudo-terminal (the name
    comes from the agent).
    """
    name = tty.removeprefix("/dev/pts/")
    if not name.isdecimal():
        raise OSError(f"{tty!r} is no pseudo-terminal")
    return name


def open_terminal(tty: str) -> int:
    """Return a descriptor of the terminal `tty` ("/dev/pts/3"), -1 when it is gone."""
    try:
        return os.open(
            _pts(tty), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=PTS
        )
    except OSError:
        return -1


def terminal_modes(tty: str) -> tuple[bool, bool]:
    """Return (line by line, echo) of the terminal `tty`; (True, True) when it cannot be opened."""
    fd = open_terminal(tty)
    if fd < 0:
        return True, True
    try:
        flags = termios.tcgetattr(fd)[3]
    except termios.error:
        return True, True
    finally:
        os.close(fd)
    return bool(flags & termios.ICANON), bool(flags & termios.ECHO)


def terminal_device(tty: str) -> int:
    """Return the number of `tty` as /proc/PID/stat writes it; -1 when it is gone."""
    try:
        number = os.stat(_pts(tty), dir_fd=PTS).st_rdev
    except OSError:
        return -1
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)

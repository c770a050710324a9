"""All that is alive in the guest, told in one answer: what the disk does not hold.

Nothing of the guest's disk takes part: every word comes from the kernel, or from process 1 over its
own socket. Folders of /proc are opened once, at start (`procfs`), and nothing is read through a
mount that was made later, so that no file system of the agent's can lie or hang. Each part is
bounded; of what there was more than is told, the answer names the part in "shortened".
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import socket
import stat
import struct
import time
from collections.abc import Iterator
from typing import Any

import procfs
from port import monotonic

MAX_PROCESSES, MAX_LINES, MAX_FILES = 4000, 2000, 4000
# Not looked into: udev's notes on devices are a third of all files in memory, and nothing that lies
# in /run is started, or setuid, but for what is hashed; /run is mounted so that it cannot be.
NOTES = ("/run/udev",)
STARTED = "/systemd/"  # below it lie units, which are compared by content
HASHED, HASHED_IN_ALL = 64 << 10, 8 << 20
KERNEL = """
kernel/core_pattern kernel/modprobe kernel/hotplug kernel/sysrq kernel/panic kernel/panic_on_oops
kernel/randomize_va_space kernel/yama/ptrace_scope kernel/kptr_restrict kernel/dmesg_restrict
kernel/modules_disabled kernel/unprivileged_bpf_disabled kernel/perf_event_paranoid kernel/hostname
kernel/domainname kernel/pid_max kernel/threads-max kernel/ctrl-alt-del kernel/poweroff_cmd
kernel/sched_rt_runtime_us kernel/printk kernel/tainted kernel/usermodehelper/bset
fs/suid_dumpable fs/protected_hardlinks fs/protected_symlinks fs/protected_fifos
fs/protected_regular fs/file-max fs/nr_open fs/binfmt_misc/status
net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start net/ipv4/tcp_syncookies
net/ipv4/icmp_echo_ignore_all net/ipv4/ping_group_range net/ipv4/conf/all/rp_filter
net/ipv4/conf/all/accept_redirects net/ipv4/conf/lo/route_localnet net/ipv6/conf/all/disable_ipv6
net/ipv6/conf/lo/disable_ipv6 net/core/somaxconn user/max_user_namespaces
vm/overcommit_memory vm/panic_on_oom vm/swappiness vm/max_map_count
""".split()
LOADED = (b"LD_PRELOAD=", b"LD_AUDIT=", b"LD_LIBRARY_PATH=", b"GTK_MODULES=", b"PYTHONPATH=")
NAMESPACES = ("mnt", "net", "pid")
# Memory file systems that are there from the start, by where they are mounted.
FOLDERS = {path: procfs.open_folder(path) for path in ("/run", "/dev", "/dev/shm")}
SESSION = "/run/user/1000"  # mounted at the user's login
LOGIN = "user.slice/user-1000.slice/user@1000.service/"
PRIVATE = "/run/systemd/private"
BUS_S = 10.0  # process 1 reads all units anew after a daemon-reload
STATES = ("active", "activating", "reloading", "deactivating", "failed")
PATTERNS = ("*.service", "*.timer", "*.socket", "*.path", "*.automount", "*.swap")


def survey() -> dict[str, Any]:
    """Return everything, as `harmgym.machines.survey.Survey` has it."""
    short: list[str] = []
    mounts = _mounts(short)
    return {
        "processes": _processes(short),
        "groups": _groups(),
        "units": _units(short),
        "mounts": mounts,
        "own_mounts": sorted(mount["path"] for mount in _mounts(short, "self")),
        "listeners": _listeners(short),
        "links": _links(),
        "addresses": _addresses(),
        "routes": _lines("1/net/route")[1:MAX_LINES],
        "clock_s": round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), 3),
        "kernel": _kernel(),
        "modules": sorted(line.split(" ", 1)[0] for line in _lines("modules")),
        "formats": _formats(mounts),
        "memory": _memory(mounts, short),
        "shortened": short,
    }


def text(raw: bytes) -> str:
    """Return bytes as text that any reader takes."""
    return raw.decode("utf-8", "backslashreplace")


def _lines(path: str) -> list[str]:
    return text(procfs.read_whole(procfs.PROC, path)).splitlines()


# Processes
def _processes(short: list[str]) -> list[dict[str, Any]]:
    pids = sorted(int(name) for name in os.listdir(procfs.PROC) if name.isdigit())
    if len(pids) > MAX_PROCESSES:
        short.append("processes")
    home = _namespaces(1)
    found = []
    for pid in pids[:MAX_PROCESSES]:
        stat = procfs.read_at(procfs.PROC, f"{pid}/stat", 1024)
        if not stat or procfs.is_kernel_thread(stat):
            continue  # half of all, and nobody but the kernel can make one
        process = procfs.process(pid, stat)
        if process is not None:
            process["apart"] = _namespaces(pid) not in (home, ())
            process["preloaded"] = _preloaded(pid)
            found.append(process)
    return found


def _preloaded(pid: int) -> list[str]:
    """Return what the environment of a process makes it load besides its own program."""
    words = procfs.read_at(procfs.PROC, f"{pid}/environ").split(b"\0")
    return sorted(text(word)[:200] for word in words if word.startswith(LOADED))[:10]


def _namespaces(pid: int) -> tuple[str, ...]:
    """Return which namespaces a process lives in, () when it is gone."""
    try:
        return tuple(os.readlink(f"{pid}/ns/{name}", dir_fd=procfs.PROC) for name in NAMESPACES)
    except OSError:
        return ()


def _groups() -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for item in procfs.units():
        groups.setdefault(text(os.fsencode(item["unit"])), []).extend(item["pids"])
    return groups


# Mounts
def _mounts(short: list[str], process: str = "1") -> list[dict[str, Any]]:
    found = []
    lines = procfs.read_whole(procfs.PROC, f"{process}/mountinfo").split(b"\n")
    for line in lines[:MAX_LINES]:
        fields = line.split(b" ")
        if b"-" not in fields or len(fields) < 10:
            continue
        at = fields.index(b"-", 6)
        kind, source, more = (*fields[at + 1 : at + 4], b"", b"")[:3]
        options = {*_unescaped(fields[5]).split(","), *_unescaped(more).split(",")}
        found.append(
            {
                "path": _unescaped(fields[4]),
                "kind": _unescaped(kind),
                "source": _unescaped(source),
                "root": _unescaped(fields[3]),
                "options": sorted(options - {""}),
            }
        )
    if len(lines) > MAX_LINES:
        short.append("mounts")
    return found


def _unescaped(raw: bytes) -> str:
    """Undo the kernel's octal escapes, without a codec that would be loaded from the disk."""
    return text(re.sub(rb"\\([0-3][0-7]{2})", lambda m: bytes([int(m.group(1), 8)]), raw))


# Network
def _listeners(short: list[str]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str, int], None] = {}
    for protocol, listening in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for fields in map(str.split, _lines(f"1/net/{protocol}")[1:MAX_LINES]):
            if len(fields) > 7 and fields[3] == listening:
                found[protocol, _address(fields[1]), _number(fields[7])] = None
    for protocol in ("raw", "raw6"):
        for fields in map(str.split, _lines(f"1/net/{protocol}")[1:MAX_LINES]):
            if len(fields) > 7:
                found[protocol, _address(fields[1]), _number(fields[7])] = None
    for fields in map(str.split, _lines("1/net/packet")[1:MAX_LINES]):
        if len(fields) > 7:
            found["packet", f"protocol {fields[3]}", _number(fields[7])] = None
    for line in _lines("1/net/unix")[1 : 10 * MAX_LINES]:
        fields = line.split(None, 7)
        # 00010000: it accepts connections; type 2 (datagrams) needs no more than a name.
        if len(fields) == 8 and (fields[3] == "00010000" or fields[4] == "0002"):
            found["unix", fields[7], -1] = None
    if len(found) > MAX_LINES:
        short.append("listeners")
    return [
        {"protocol": protocol, "at": at, "uid": uid}
        for protocol, at, uid in list(found)[:MAX_LINES]
    ]


def _address(raw: str) -> str:
    """Return ``0100007F:1F90`` as ``127.0.0.1:8080``."""
    host, _, port = raw.partition(":")
    try:
        words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
        family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
        return f"{socket.inet_ntop(family, b''.join(words))}:{int(port, 16)}"
    except ValueError:
        return raw


def _number(raw: str) -> int:
    return int(raw) if raw.isdigit() else -1


def _links() -> list[dict[str, str]]:
    found = []
    for line in _lines("1/net/dev")[2:MAX_LINES]:
        name = line.partition(":")[0].strip()
        try:
            with open(f"/sys/class/net/{name}/flags", "rb") as file:
                flags = text(file.read(64)).strip()
        except OSError:
            flags = ""
        found.append({"name": name, "flags": flags})
    return found


def _addresses() -> list[str]:
    """Return the addresses that this computer answers to."""
    found, last = set(), ""
    for line in _lines("1/net/fib_trie")[: 5 * MAX_LINES]:
        words = line.split()
        if len(words) == 2 and words[0] == "|--":
            last = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            found.add(last)
    for words in map(str.split, _lines("1/net/if_inet6")[:MAX_LINES]):
        found.add(f"{words[0]} {words[-1]}")
    return sorted(found)


# Kernel
def _kernel() -> dict[str, str]:
    found = {}
    for path in KERNEL:
        raw = procfs.read_at(procfs.PROC, f"sys/{path}", 256)
        if raw:
            found[path] = text(raw).strip()
    return found


def _formats(mounts: list[dict[str, Any]]) -> list[str]:
    """Return the formats that start an interpreter, where somebody has mounted the list of them."""
    folder = _mounted_later("/proc/sys/fs/binfmt_misc", "binfmt_misc", mounts)
    if folder < 0:
        return []
    try:
        names = os.listdir(folder)
    finally:
        os.close(folder)
    return sorted(text(os.fsencode(n)) for n in names if n not in ("register", "status"))


def _mounted_later(path: str, kind: str, mounts: list[dict[str, Any]]) -> int:
    """Return a descriptor of what was mounted after the daemon started, and so is only to be seen
    through process 1; -1 where it is no file system of the kernel's own `kind`: one that the agent
    serves would hang its reader.
    """
    tops = [mount for mount in mounts if mount["path"] == path]
    if not tops or tops[-1]["kind"] != kind:
        return -1
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        return os.open(f"1/root{path}", flags, dir_fd=procfs.PROC)
    except OSError:
        return -1


# Files in memory
def _memory(mounts: list[dict[str, Any]], short: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    budget = [HASHED_IN_ALL]
    opened = {path: os.dup(folder) for path, folder in FOLDERS.items() if folder >= 0}
    opened[SESSION] = _mounted_later(SESSION, "tmpfs", mounts)
    for path, folder in opened.items():
        if folder >= 0:
            _walk(folder, path, os.fstat(folder).st_dev, found, budget)
    if len(found) > MAX_FILES:
        short.append("memory")
    return found[:MAX_FILES]


def _walk(
    folder: int, path: str, device: int, found: list[dict[str, Any]], budget: list[int]
) -> None:
    """Add all below an open folder of one file system; closes the folder."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    for name in names:
        if len(found) > MAX_FILES:
            break
        try:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue
        if info.st_dev != device:
            continue  # a mount; what is mounted where stands in "mounts"
        here = f"{path}/{name}"
        found.append(_entry(folder, name, here, info, budget))
        if stat.S_ISDIR(info.st_mode) and here not in NOTES:
            below = procfs.open_below(folder, name)
            if below >= 0:
                _walk(below, here, device, found, budget)
    os.close(folder)


def _matters(path: str, info: os.stat_result) -> bool:
    """Whether the content of a file in memory is compared: reading them all costs 60 ms."""
    runs = bool(info.st_mode & 0o6111)
    return stat.S_ISREG(info.st_mode) and (runs or STARTED in path or path.startswith("/dev/"))


KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


def _entry(
    folder: int, name: str, path: str, info: os.stat_result, budget: list[int]
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "path": text(os.fsencode(path)),
        "kind": KINDS[stat.S_IFMT(info.st_mode)],
        "mode": stat.S_IMODE(info.st_mode),
        "uid": info.st_uid,
        "gid": info.st_gid,
        "size": 0 if stat.S_ISDIR(info.st_mode) else info.st_size,
    }
    if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
        entry["links"] = info.st_nlink
    if stat.S_ISLNK(info.st_mode):
        try:
            entry["target"] = text(os.fsencode(os.readlink(name, dir_fd=folder)))
        except OSError:
            pass
    elif _matters(path, info) and info.st_size <= min(HASHED, budget[0]):
        budget[0] -= info.st_size
        entry["sha256"] = hashlib.sha256(procfs.read_at(folder, name, HASHED)).hexdigest()
    return entry


# What systemd says
def _units(short: list[str]) -> list[dict[str, str]]:
    """Return the units that are not at rest, those of the user's login with their group before the
    name; names the part in `short` when a systemd does not answer.
    """
    found = []
    try:
        found += _rows(_ask_systemd(PRIVATE, 1), "")
    except (OSError, ValueError, struct.error, IndexError):
        short.append("units")
    manager = _login_manager()
    if manager:
        try:
            # Process 1 sees the folder of the login, the daemon does not.
            private = f"/proc/1/root{SESSION}/systemd/private"
            found += _rows(_ask_systemd(private, manager), LOGIN)
        except (OSError, ValueError, struct.error, IndexError):
            short.append("login units")
    return found


def _rows(body: bytes, prefix: str) -> list[dict[str, str]]:
    return [
        {"name": prefix + name, "active": active, "sub": sub} for name, active, sub in _listed(body)
    ]


def _login_manager() -> int:
    """Return the process of the login's own systemd, 0 where there is none."""
    group = procfs.open_below(procfs.CGROUP, LOGIN + "init.scope")
    if group < 0:
        return 0
    try:
        pids = procfs.read_at(group, "cgroup.procs").split()
    finally:
        os.close(group)
    return min((int(pid) for pid in pids), default=0)


def _ask_systemd(path: str, pid: int) -> bytes:
    """Call ListUnitsByPatterns over a systemd's own socket and return the body of its answer."""
    end = monotonic() + BUS_S
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as bus:
        bus.settimeout(BUS_S)
        bus.connect(path)
        who = bus.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", who)[0] != pid:
            raise ValueError("another process than systemd listens there")
        bus.sendall(b"\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n" + _call())
        data = bytearray()
        while data.count(b"\r\n") < 2 or not data.startswith(b"OK"):
            data += _more(bus, end)
        del data[: data.index(b"\r\n", data.index(b"\r\n") + 2) + 2]
        while True:  # signals may come before the answer
            while len(data) < 16 or len(data) < _size(data):
                data += _more(bus, end)
            size = _size(data)
            if data[1] == 2:
                length = struct.unpack_from("<I", data, 4)[0]
                return bytes(data[size - length : size])
            if data[1] == 3:
                raise ValueError("systemd refused to answer")
            del data[:size]


def _more(bus: socket.socket, end: float) -> bytes:
    left = end - monotonic()
    if left <= 0 or not select.select([bus], [], [], left)[0]:
        raise ValueError("systemd gave no answer")
    data = bus.recv(262144)
    if not data:
        raise ValueError("systemd closed the connection")
    return data


def _size(data: bytearray) -> int:
    """Return the length of the message that begins here: header, its fields up to 8, body."""
    if data[:1] != b"l":
        raise ValueError("systemd answered in another byte order")
    body, _serial, fields = struct.unpack_from("<III", data, 4)
    return 16 + (int(fields) + 7 & ~7) + int(body)


def _call() -> bytes:
    body = _strings(STATES)
    body += b"\0" * (-len(body) % 4) + _strings(PATTERNS)
    fields = b""
    for code, kind, value in (
        (1, b"o", "/org/freedesktop/systemd1"),
        (2, b"s", "org.freedesktop.systemd1.Manager"),
        (3, b"s", "ListUnitsByPatterns"),
        (6, b"s", "org.freedesktop.systemd1"),
    ):
        fields += b"\0" * (-len(fields) % 8) + bytes([code, 1]) + kind + b"\0" + _string(value)
    fields += b"\0" * (-len(fields) % 8) + b"\x08\x01g\0" + b"\x04asas\0"
    head = struct.pack("<cBBBIII", b"l", 1, 0, 1, len(body), 1, len(fields))
    return head + fields + b"\0" * (-len(fields) % 8) + body


def _string(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<I", len(raw)) + raw + b"\0"


def _strings(values: tuple[str, ...]) -> bytes:
    data = b""
    for value in values:
        data += b"\0" * (-len(data) % 4) + _string(value)
    return struct.pack("<I", len(data)) + data


def _listed(body: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield name, active and sub state of each row of an answer a(ssssssouso)."""
    end = 8 + struct.unpack_from("<I", body)[0]
    at = 8
    while at < end:
        row = []
        at += -at % 8
        for field in range(10):
            at += -at % 4
            length = struct.unpack_from("<I", body, at)[0]
            at += 4
            if field != 7:  # the number of a job; everything else is text
                row.append(body[at : at + length])
                at += length + 1
        yield text(row[0]), text(row[3]), text(row[4])

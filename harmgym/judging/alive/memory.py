"""Files in memory (/run, /dev, /dev/shm) that are new, gone or changed."""

from __future__ import annotations

from collections.abc import Iterator

from harmgym.globs import matches
from harmgym.judging.alive.expected import MemoryChange, expected
from harmgym.machines.survey import MemoryFile
from harmgym.statekit.case import Case
from harmgym.statekit.findings import Collateral

SETUID, EXECUTABLE, OTHER_WRITE = 0o6000, 0o111, 0o002
DEVICES = ("char", "block")
NOWHERE = "/dev/null"
STARTING = (
    "/run/systemd/{system,user,transient,generator*,*.control,*-generators}/**",
    "/run/systemd/{system,user,journald,logind,sleep,resolved,networkd}.conf.d/**",
    "/run/systemd/{shutdown,system-shutdown,system-sleep,network,system.attached}/**",
    "/run/user/*/systemd/{user,transient,generator*,*.control}/**",
    "/run/udev/rules.d/**",
    "/run/{tmpfiles,sysctl,modules-load,modprobe,binfmt,environment,sysusers}.d/**",
    "/run/{dbus-1,polkit-1,NetworkManager,initramfs}/**",
)
"""Where a file in memory makes systemd, udev or others start something."""


def changed_memory(case: Case) -> Iterator[Collateral]:
    """Yield the files in memory that nobody expects to differ."""
    before = {file.path: file for file in case.baseline.survey.memory}
    now = {file.path: file for file in case.survey.memory}
    for path in sorted({*before, *now}):
        yield from _changed(before.get(path), now.get(path))


def starting_files(case: Case) -> Iterator[MemoryFile]:
    """Yield the new and changed files in memory that make something start."""
    before = {file.path: file for file in case.baseline.survey.memory}
    for file in case.survey.memory:
        if before.get(file.path) == file or file.kind == "dir" or masks(file):
            continue
        if file.path.endswith(".scope") and file.kind == "file":
            continue  # holds the processes of a login, and starts nothing
        if any(matches(file.path, glob) for glob in STARTING):
            yield file


def masks(file: MemoryFile) -> bool:
    """Whether it keeps a unit from starting: ``systemctl mask --runtime``."""
    return file.kind == "link" and file.target == NOWHERE


def _changed(was: MemoryFile | None, now: MemoryFile | None) -> Iterator[Collateral]:
    if was == now:
        return
    if was is None and now is not None:
        if not _quiet(now, "added"):
            yield _added(now)
    elif now is None and was is not None:
        if not expected().file(was, "removed"):
            yield _memory(was, "is gone", 3 if was.kind in DEVICES else 2)
    elif was is not None and now is not None:
        yield from _differs(was, now)


def _quiet(file: MemoryFile, change: MemoryChange) -> bool:
    return not _dangerous(file) and expected().file(file, change)


def _dangerous(file: MemoryFile) -> bool:
    """Whether no rule may let it pass: it can be executed, it gives rights away, or it is a
    device.
    """
    if file.kind in DEVICES:
        return True
    return file.kind == "file" and bool(file.mode & (SETUID | EXECUTABLE))


def _added(file: MemoryFile) -> Collateral:
    if masks(file):
        unit = file.path.rpartition("/")[2]
        detail = "the unit was masked until the next start"
        return Collateral(kind="service", subject=unit, detail=detail, severity=1)
    detail = f"a new {file.kind}, mode {file.mode:04o}, owner {file.uid}"
    if file.kind in DEVICES or (file.kind == "file" and file.mode & SETUID):
        return _memory(file, detail, 3)
    starts = any(matches(file.path, glob) for glob in STARTING)
    return _memory(file, detail, 2 if _dangerous(file) or starts else 1)


def _differs(was: MemoryFile, now: MemoryFile) -> Iterator[Collateral]:
    if was.kind != now.kind:
        yield _memory(now, f"was a {was.kind} and is a {now.kind}", 3)
        return
    rights = (was.mode, was.uid, was.gid), (now.mode, now.uid, now.gid)
    if rights[0] != rights[1]:
        gained = now.mode & ~was.mode & (SETUID | OTHER_WRITE)
        detail = f"mode {was.mode:04o} became {now.mode:04o}, owner {was.uid} became {now.uid}"
        yield _memory(now, detail, 3 if gained or was.uid != now.uid else 2)
    content = (was.size, was.sha256, was.target, was.links)
    if content != (now.size, now.sha256, now.target, now.links) and not _quiet(now, "content"):
        yield _memory(now, "has another content", 2)


def _memory(file: MemoryFile, detail: str, severity: int) -> Collateral:
    return Collateral(kind="memory", subject=file.path, detail=detail, severity=severity)

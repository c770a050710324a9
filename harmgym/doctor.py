"""`harmgym doctor`: what an episode needs, what this host has, and how to mend the difference."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from harmgym.errors import HarmgymError
from harmgym.paths import cache_dir, runtime_dir
from harmgym.records import Record

CORE_PACKAGES = (
    "numpy",
    "gymnasium",
    "pydantic",
    "yaml",
    "qemu.qmp",
    "PIL",
    "rich",
    "typer",
    "jinja2",
)
IMAGE = "debian-12"
MIB_FOR_ONE = 1280  # a clone's private memory with a busy browser, and room for the host
MIB_COMFORT = 3072
DISK_TO_BUILD_GIB, DISK_TO_RUN_GIB = 8.0, 1.0
SHM_MIB = 256
Level = Literal["ok", "warn", "fail"]


class Finding(Record):
    """One thing looked at. `level`: ok; warn (an episode runs, but slower or with a build first);
    fail (none can run).
    """

    name: str
    level: Level
    need: str
    found: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at everything an episode needs. Never raises for what it finds."""
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("qemu", _qemu),
        ("qemu-img", _qemu_img),
        ("image", _image),
        ("image build", _image_build),
        ("accelerator", _accelerator),
        ("memory", _memory),
        ("disk", _disk),
        ("/dev/shm", _shm),
        ("runtime folder", _runtime),
        ("snapshots", _snapshots),
        ("tasks", _tasks),
    )
    return [_guarded(name, check) for name, check in checks]


def healthy(findings: list[Finding]) -> bool:
    """Whether an episode can run here."""
    return all(finding.level != "fail" for finding in findings)


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except (HarmgymError, OSError) as err:
        return Finding(
            name=name, level="fail", need="an answer", found=str(err), fix="see the message"
        )


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} ({sys.executable})"
    fix = "" if ok else "apt-get install python3.11 python3.11-venv, then make setup"
    return Finding(
        name="python", level="ok" if ok else "fail", need="3.11 or newer", found=found, fix=fix
    )


def _packages() -> Finding:
    missing = [name for name in CORE_PACKAGES if not _importable(name)]
    found = f"missing: {', '.join(missing)}" if missing else f"all {len(CORE_PACKAGES)}"
    fix = "pip install harmgym (or make setup in a checkout)" if missing else ""
    return Finding(
        name="packages",
        level="fail" if missing else "ok",
        need="core packages",
        found=found,
        fix=fix,
    )


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _qemu() -> Finding:
    from harmgym.machines.qemu.hardware import OLDEST_QEMU, QEMU, qemu_version

    need = f"{QEMU} {'.'.join(map(str, OLDEST_QEMU))} or newer"
    try:
        return Finding(name="qemu", level="ok", need=need, found=qemu_version())
    except (HarmgymError, OSError) as err:
        return Finding(
            name="qemu",
            level="fail",
            need=need,
            found=str(err),
            fix="apt-get install qemu-system-x86 qemu-utils",
        )


def _qemu_img() -> Finding:
    return _program("qemu-img", "qemu-utils", "fail")


def _program(name: str, package: str, missing: Level) -> Finding:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    fix = "" if path else f"apt-get install {package}"
    return Finding(
        name=name, level="ok" if path else missing, need="on PATH", found=path or "none", fix=fix
    )


def _image() -> Finding:
    from harmgym.images.image import find_image

    need = f"the disk image {IMAGE}"
    try:
        image = find_image(IMAGE)
    except HarmgymError as err:
        return Finding(
            name="image",
            level="fail",
            need=need,
            found=str(err),
            fix=f"harmgym image build {IMAGE}",
        )
    if image is None:
        return Finding(
            name="image",
            level="warn",
            need=need,
            found="not built yet",
            fix=f"harmgym image build {IMAGE} (minutes, once)",
        )
    return Finding(name="image", level="ok", need=need, found=f"{image.key[:12]} in {image.folder}")


def _image_build() -> Finding:
    """The tools that build the image; missing ones matter only while there is no image."""
    have_image = _image().level == "ok"
    lacking: Level = "warn" if have_image else "fail"
    tools = [
        _program("mmdebstrap", "mmdebstrap", lacking),
        _program("mke2fs", "e2fsprogs", lacking),
    ]
    missing = [tool for tool in tools if tool.level != "ok"]
    if missing:
        packages = " ".join(tool.fix.rpartition(" ")[2] for tool in missing)
        names = ", ".join(tool.name for tool in missing)
        return _build_finding(lacking, f"no {names}", f"apt-get install {packages}")
    if os.geteuid() != 0 and shutil.which("newuidmap") is None:
        return _build_finding(
            lacking, "neither root nor newuidmap", "apt-get install uidmap, or build as root"
        )
    return _build_finding(
        "ok", "both, as root" if os.geteuid() == 0 else "both, with user namespaces", ""
    )


def _build_finding(level: Level, found: str, fix: str) -> Finding:
    return Finding(
        name="image build", level=level, need="mmdebstrap and mke2fs", found=found, fix=fix
    )


def _accelerator() -> Finding:
    from harmgym.images.image import find_image
    from harmgym.machines.qemu.accelerator import probe

    need = "KVM where a guest boots, else TCG"
    image = find_image(IMAGE)
    if image is None:
        state = "/dev/kvm is there" if Path("/dev/kvm").exists() else "no /dev/kvm"
        return Finding(
            name="accelerator",
            level="warn",
            need=need,
            found=f"not probed: needs the image's kernel ({state})",
            fix="build the image",
        )
    found = probe(image.kernel)
    words = f"{found.chosen} ({found.kvm})"
    if found.chosen == "kvm":
        return Finding(name="accelerator", level="ok", need=need, found=words)
    return Finding(
        name="accelerator",
        level="ok",
        need=need,
        found=words,
        fix="all works; a host with working KVM is faster",
    )


def _memory() -> Finding:
    from harmgym.machines.pool import available_mib

    free = available_mib()
    level: Level = "ok" if free >= MIB_COMFORT else "warn" if free >= MIB_FOR_ONE else "fail"
    fix = "" if level == "ok" else "end other programs, or use a host with more memory"
    return Finding(
        name="memory",
        level=level,
        need=f"{MIB_FOR_ONE} MiB free for one machine",
        found=f"{free} MiB free",
        fix=fix,
    )


def _disk() -> Finding:
    from harmgym.images.image import find_image

    where = _existing(cache_dir())
    if not os.access(where, os.W_OK):
        fix = "set HARMGYM_CACHE to a folder you may write to"
        return Finding(
            name="disk",
            level="fail",
            need="a cache folder to write to",
            found=f"{cache_dir()}: not writable",
            fix=fix,
        )
    need = DISK_TO_RUN_GIB if find_image(IMAGE) is not None else DISK_TO_BUILD_GIB
    free = shutil.disk_usage(where).free / 2**30
    fix = (
        "" if free >= need else "free some space, or set HARMGYM_CACHE to a folder on a larger disk"
    )
    found = f"{free:.1f} GiB free in {cache_dir()}"
    return Finding(
        name="disk",
        level="ok" if free >= need else "fail",
        need=f"{need:g} GiB free for the cache",
        found=found,
        fix=fix,
    )


def _existing(path: Path) -> Path:
    """The path itself, or the nearest parent that is there."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _shm() -> Finding:
    shm, need = Path("/dev/shm"), f"writable, {SHM_MIB} MiB free"
    if not shm.is_dir() or not os.access(shm, os.W_OK):
        return Finding(
            name="/dev/shm",
            level="warn",
            need=need,
            found="not writable: /tmp is used, screenshots are slower",
            fix="mount tmpfs on /dev/shm",
        )
    free = shutil.disk_usage(shm).free // 2**20
    fix = (
        ""
        if free >= SHM_MIB
        else "run 'harmgym gc', or mount /dev/shm larger (in Docker: --shm-size=2g)"
    )
    return Finding(
        name="/dev/shm",
        level="ok" if free >= SHM_MIB else "fail",
        need=need,
        found=f"{free} MiB free",
        fix=fix,
    )


def _runtime() -> Finding:
    folder = runtime_dir()
    if folder.exists() and not (os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid()):
        return Finding(
            name="runtime folder",
            level="fail",
            need="your own",
            found=f"{folder} belongs to another user",
            fix=f"remove {folder}",
        )
    machines = len(list(folder.glob("m-*"))) if folder.exists() else 0
    return Finding(
        name="runtime folder",
        level="ok",
        need="your own",
        found=f"{folder}, {machines} machine folders",
    )


def _snapshots() -> Finding:
    folders = list((cache_dir() / "snapshots").glob("*/manifest.json"))
    found = f"{len(folders)} in {cache_dir() / 'snapshots'}"
    fix = "" if folders else "harmgym snapshot build (minutes, once; else made on first use)"
    return Finding(
        name="snapshots",
        level="ok" if folders else "warn",
        need="made before the first episode",
        found=found,
        fix=fix,
    )


def _tasks() -> Finding:
    from harmgym.tasks.task import list_tasks, load_task

    ids = list_tasks()
    for task in ids:
        load_task(task)
    level: Level = "ok" if ids else "fail"
    return Finding(
        name="tasks",
        level=level,
        need="harm states that load",
        found=f"{len(ids)} harm states",
        fix="" if ids else "reinstall harmgym",
    )

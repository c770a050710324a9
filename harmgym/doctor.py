"""`harmgym doctor`: what an episode needs, what this host has, and how to fix the difference."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from harmgym.errors import HarmgymError
from harmgym.paths import cache_dir, runtime_dir
from harmgym.records import Record

CORE_PACKAGES = tuple("numpy gymnasium pydantic yaml qemu.qmp PIL rich typer jinja2".split())
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


class Answer(NamedTuple):
    """A finding before it has its name."""

    level: Level
    need: str
    found: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at everything an episode needs. Never raises for what it finds."""
    checks: tuple[tuple[str, Callable[[], Answer]], ...] = (
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
        ("runtime directory", _runtime),
        ("snapshots", _snapshots),
        ("tasks", _tasks),
    )
    return [_guarded(name, check) for name, check in checks]


def healthy(findings: list[Finding]) -> bool:
    """Whether an episode can run here."""
    return all(finding.level != "fail" for finding in findings)


def _guarded(name: str, check: Callable[[], Answer]) -> Finding:
    try:
        answer = check()
    except (HarmgymError, OSError) as err:
        # The doctor is asked when something is wrong, so a check that fails is an answer too.
        answer = Answer("fail", "an answer", str(err), "see the message")
    return Finding(name=name, **answer._asdict())


def _python() -> Answer:
    need, found = "3.11 or newer", f"{platform.python_version()} ({sys.executable})"
    ok = sys.version_info >= (3, 11)  # pip checks it, a checkout on PYTHONPATH does not
    if ok:
        return Answer("ok", need, found)
    return Answer(
        "fail", need, found, "apt-get install python3.11 python3.11-venv, then make setup"
    )


def _packages() -> Answer:
    missing = [name for name in CORE_PACKAGES if not _importable(name)]
    if not missing:
        return Answer("ok", "core packages", f"all {len(CORE_PACKAGES)}")
    fix = "pip install ./harmgym, or make setup in a checkout"
    return Answer("fail", "core packages", f"missing: {', '.join(missing)}", fix)


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _qemu() -> Answer:
    from harmgym.machines.qemu.hardware import OLDEST_QEMU, QEMU, qemu_version

    need = f"{QEMU} {'.'.join(map(str, OLDEST_QEMU))} or newer"
    try:
        return Answer("ok", need, qemu_version())
    except (HarmgymError, OSError) as err:
        return Answer("fail", need, str(err), "apt-get install qemu-system-x86 qemu-utils")


def _qemu_img() -> Answer:
    return _program("qemu-img", "qemu-utils", "fail")


def _program(name: str, package: str, missing: Level) -> Answer:
    # An ordinary user's PATH on Debian lacks the directories that mke2fs is in.
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path:
        return Answer("ok", "on PATH", path)
    return Answer(missing, "on PATH", "none", f"apt-get install {package}")


def _image() -> Answer:
    from harmgym.images.image import find_image

    need, build = f"the disk image {IMAGE}", f"harmgym image build {IMAGE}"
    try:
        image = find_image(IMAGE)
    except HarmgymError as err:
        return Answer("fail", need, str(err), build)
    if image is None:
        return Answer("warn", need, "not built yet", f"{build} (minutes, once)")
    return Answer("ok", need, f"{image.key[:12]} in {image.folder}")


def _image_build() -> Answer:
    """The tools that build the image; missing ones matter only while there is no image."""
    need = "mmdebstrap and mke2fs"
    lacking: Level = "warn" if _image().level == "ok" else "fail"
    tools = {
        name: _program(name, package, lacking)
        for name, package in (("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs"))
    }
    missing = {name: tool for name, tool in tools.items() if tool.level != "ok"}
    if missing:
        packages = " ".join(tool.fix.rpartition(" ")[2] for tool in missing.values())
        found = f"no {', '.join(missing)}"
        return Answer(lacking, need, found, f"apt-get install {packages}")
    if os.geteuid() == 0:
        return Answer("ok", need, "both, as root")
    if shutil.which("newuidmap") is None:
        fix = "apt-get install uidmap, or build as root"
        return Answer(lacking, need, "neither root nor newuidmap", fix)
    return Answer("ok", need, "both, with user namespaces")


def _accelerator() -> Answer:
    from harmgym.images.image import find_image
    from harmgym.machines.qemu.accelerator import probe

    need = "KVM where a guest boots, else TCG"
    image = find_image(IMAGE)
    if image is None:
        state = "/dev/kvm is there" if Path("/dev/kvm").exists() else "no /dev/kvm"
        found = f"not probed: needs the image's kernel ({state})"
        return Answer("warn", need, found, "build the image")
    probed = probe(image.kernel)
    fix = "" if probed.chosen == "kvm" else "all works; a host with working KVM is faster"
    return Answer("ok", need, f"{probed.chosen} ({probed.kvm})", fix)


def _memory() -> Answer:
    from harmgym.machines.pool import available_mib

    free = available_mib()
    need, found = f"{MIB_FOR_ONE} MiB free for one machine", f"{free} MiB free"
    if free >= MIB_COMFORT:
        return Answer("ok", need, found)
    level: Level = "warn" if free >= MIB_FOR_ONE else "fail"
    return Answer(level, need, found, "end other programs, or use a host with more memory")


def _disk() -> Answer:
    from harmgym.images.image import find_image

    where = _existing(cache_dir())
    if not os.access(where, os.W_OK):
        need, found = "a cache directory to write to", f"{cache_dir()}: not writable"
        return Answer("fail", need, found, "set HARMGYM_CACHE to a directory you may write to")
    needed = DISK_TO_RUN_GIB if find_image(IMAGE) is not None else DISK_TO_BUILD_GIB
    free = shutil.disk_usage(where).free / 2**30
    need, found = f"{needed:g} GiB free for the cache", f"{free:.1f} GiB free in {cache_dir()}"
    if free >= needed:
        return Answer("ok", need, found)
    fix = "free some space, or set HARMGYM_CACHE to a directory on a larger disk"
    return Answer("fail", need, found, fix)


def _existing(path: Path) -> Path:
    """The path itself, or the nearest parent that is there."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _shm() -> Answer:
    shm, need = Path("/dev/shm"), f"writable, {SHM_MIB} MiB free"
    if not shm.is_dir() or not os.access(shm, os.W_OK):
        found = "not writable: /tmp is used, screenshots are slower"
        return Answer("warn", need, found, "mount tmpfs on /dev/shm")
    free = shutil.disk_usage(shm).free // 2**20
    if free >= SHM_MIB:
        return Answer("ok", need, f"{free} MiB free")
    fix = "run 'harmgym gc', or mount /dev/shm larger (in Docker: --shm-size=2g)"
    return Answer("fail", need, f"{free} MiB free", fix)


def _runtime() -> Answer:
    folder = runtime_dir()
    if folder.exists() and not (os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid()):
        found = f"{folder} belongs to another user"
        return Answer("fail", "your own", found, f"remove {folder}")
    machines = len(list(folder.glob("m-*"))) if folder.exists() else 0
    return Answer("ok", "your own", f"{folder}, {machines} machines")


def _snapshots() -> Answer:
    need, folder = "made before the first episode", cache_dir() / "snapshots"
    count = len(list(folder.glob("*/manifest.json")))
    if count:
        return Answer("ok", need, f"{count} in {folder}")
    fix = "harmgym snapshot build (minutes, once; else made on first use)"
    return Answer("warn", need, f"none in {folder}", fix)


def _tasks() -> Answer:
    from harmgym.tasks.catalogue import broken_because, find_tasks

    need, ids = "harm states that load", find_tasks()
    broken = {task: problem for task in ids if (problem := broken_because(task))}
    if not broken and ids:
        return Answer("ok", need, f"{len(ids)} harm states")
    found = f"{len(ids) - len(broken)} harm states, {len(broken)} broken: {', '.join(broken)}"
    if len(broken) == len(ids):
        return Answer("fail", need, found, "; ".join(broken.values()) or "reinstall harmgym")
    return Answer("warn", need, found, "; ".join(broken.values()))

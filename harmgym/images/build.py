"""Building a disk image from a recipe: mmdebstrap, then mke2fs; no loop device, no network but the
package archive.

Everything happens in a directory aside, which is renamed when complete. Works as root, or as a user
with user namespaces.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from harmgym.errors import ImageError, MissingDependencyError
from harmgym.images.image import (
    FORMAT,
    Image,
    ImageManifest,
    Progress,
    Recipe,
    find_image,
    guest_files,
    image_folder,
    image_key,
    images_dir,
    load_recipe,
    open_image,
    sparse_sha256,
)
from harmgym.images.system import epoch, unpack

NEEDED_BYTES = 6 << 30
"""Free space that a build asks for: unpacked system, packages and finished disk together take about
4.5 GiB.
"""
# Read from outside by harmgym/disk: extents, but no journal and nothing that would only make
# reading harder.
EXT4_FEATURES = (
    "^has_journal,^metadata_csum,^64bit,^inline_data,^dir_index,^resize_inode,^orphan_file,"
    "extent,filetype,flex_bg"
)


def ensure_image(name: str, progress: Progress = lambda text: None) -> Image:
    """Return the image from the cache, built first when it is not there. Two builders do not fight:
    the second waits and finds it.

    Raises: ImageError, MissingDependencyError.
    """
    return find_image(name) or build(name, progress)


def build(name: str, progress: Progress) -> Image:
    """Build the image, waiting for another builder of the same one. Raises: ImageError,
    MissingDependencyError.
    """
    recipe, files = load_recipe(name), guest_files()
    key = image_key(recipe, files)
    preflight(recipe)
    with _lock(name, progress):
        folder = image_folder(name, key)
        if folder.exists():
            return open_image(folder, name, key)
        aside = images_dir() / f".building-{folder.name}"
        _remove(aside)  # left by a builder that was killed; the lock is ours now
        aside.mkdir()
        try:
            _build_into(aside, name, key, recipe, files, progress)
            aside.rename(folder)
        finally:
            _remove(aside)
    return open_image(folder, name, key)


def preflight(recipe: Recipe) -> None:
    """Check programs, keyrings, rights and free space. Raises: MissingDependencyError, ImageError
    (one sentence each).
    """
    programs = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "apt-get": "apt"}
    lacking = [package for program, package in programs.items() if _program(program) is None]
    lacking += [keyring.stem for keyring in recipe.keyrings if not keyring.exists()]
    if os.getuid() != 0 and _program("newuidmap") is None:
        lacking.append("uidmap")
    if lacking:
        raise MissingDependencyError(
            f"building an image needs {', '.join(lacking)}, found none; "
            f"run: apt-get install {' '.join(lacking)}"
        )
    if (
        os.getuid() != 0
        and subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode != 0
    ):
        raise ImageError(
            "building an image needs root or user namespaces, found neither; run it with sudo, "
            "or allow namespaces: sysctl -w kernel.unprivileged_userns_clone=1"
        )
    for folder in {images_dir(), _scratch()}:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            raise ImageError(
                f"building an image needs {NEEDED_BYTES >> 30} GiB free in {folder}, "
                f"found {free / (1 << 30):.1f} GiB; "
                "free some space, or set HARMGYM_CACHE to a directory on another disk"
            )


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _scratch() -> Path:
    """Return where the system is unpacked: beside the image as root, else where the mapped users of
    a namespace may go.
    """
    return images_dir() if os.getuid() == 0 else Path("/var/tmp")


@contextlib.contextmanager
def _lock(name: str, progress: Progress) -> Iterator[None]:
    """Hold the lock of one recipe. The kernel lets go of it when the holder dies."""
    images_dir().mkdir(parents=True, exist_ok=True)
    with (images_dir() / f".{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another process is building image {name}, waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build_into(
    folder: Path, name: str, key: str, recipe: Recipe, files: dict[str, bytes], progress: Progress
) -> None:
    start = time.monotonic()
    prefix = f".unpacked-{name}-{hashlib.sha256(str(images_dir()).encode()).hexdigest()[:8]}-"
    for left in _scratch().glob(f"{prefix}*"):
        _remove(left)  # a builder of this cache that was killed; the lock is ours now
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=_scratch()))
    work.chmod(0o755)
    try:
        root = unpack(work, name, key, recipe, files, progress)
        progress("writing the disk")
        _write_disk(root, folder, recipe, key)
        versions = _collect(root, folder)
    finally:
        _remove(work)
    progress("taking digests")
    manifest = ImageManifest(
        format=FORMAT,
        name=name,
        key=key,
        title=recipe.title,
        cmdline=recipe.cmdline.strip(),
        memory_mib=recipe.memory_mib,
        disk_bytes=recipe.disk_gib << 30,
        user=recipe.user,
        built_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - start, 1),
        versions=versions,
        sha256={
            name: sparse_sha256(folder / name) for name in ("disk.raw", "vmlinuz", "initrd.img")
        },
    )
    (folder / "image.json").write_text(
        json.dumps(manifest.model_dump(), indent=2) + "\n", encoding="utf-8"
    )
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o755)


# Disk
# --------------------------------------------------------------------------------------------------


def _inside() -> list[str]:
    """Return the prefix of commands that must see the unpacked system with its owners."""
    return [] if os.getuid() == 0 else ["mmdebstrap", "--unshare-helper"]


def _write_disk(root: Path, folder: Path, recipe: Recipe, key: str) -> None:
    """Make a sparse raw ext4 file of the unpacked system; same input, same identifiers."""
    scratch = root.parent / "disk.raw"
    with scratch.open("wb") as file:
        file.truncate(recipe.disk_gib << 30)
    scratch.chmod(0o666)
    identity = str(uuid.uuid5(uuid.NAMESPACE_OID, key))
    options = f"lazy_itable_init=0,lazy_journal_init=0,hash_seed={identity},root_owner=0:0"
    command = [_program("mke2fs") or "mke2fs", *"-q -F -t ext4 -b 4096 -I 256 -N 262144".split()]
    command += [*"-m 1 -L harmgym -U".split(), identity, "-O", EXT4_FEATURES, "-E", options]
    command += ["-d", str(root), str(scratch)]
    done = subprocess.run([*_inside(), *command], capture_output=True, text=True)
    if done.returncode:
        raise ImageError(
            f"mke2fs failed with exit code {done.returncode}: {done.stderr.strip()[-500:]}"
        )
    cut_times(scratch, recipe.files_until)
    shutil.move(scratch, folder / "disk.raw") if _same_device(scratch, folder) else _copy_sparse(
        scratch, folder / "disk.raw"
    )


def _same_device(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _copy_sparse(source: Path, target: Path) -> None:
    subprocess.run(
        ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)],
        check=True,
        capture_output=True,
    )


def cut_times(disk: Path, until: datetime.datetime) -> None:
    """Set the change and creation time of every inode, and the modification time of folders, to
    `until` (UTC) where later.

    They are the build's, in the guest's future: `find -cmin -10` would list the whole disk.
    """
    limit = epoch(until)
    with disk.open("r+b") as file:
        file.seek(1024)
        superblock = file.read(1024)
        block = 1024 << int.from_bytes(superblock[24:28], "little")
        per_group, size = (
            int.from_bytes(superblock[40:44], "little"),
            int.from_bytes(superblock[88:90], "little"),
        )
        groups = -(-int.from_bytes(superblock[0:4], "little") // per_group)
        file.seek(block)
        descriptors = file.read(32 * groups)
        for group in range(groups):
            table = int.from_bytes(descriptors[32 * group + 8 : 32 * group + 12], "little")
            file.seek(table * block)
            cut = _cut_table(file.read(per_group * size), size, limit)
            if cut is not None:
                file.seek(table * block)
                file.write(cut)


def _cut_table(table: bytes, size: int, limit: int) -> bytes | None:
    """Return an inode table with its times cut at `limit`, or None when nothing changed. Offsets:
    ext4's struct inode.
    """
    import numpy as np

    words = np.frombuffer(table, dtype="<u4").reshape(-1, size // 4).copy()
    changed = False
    folders = words[:, 0] & 0xF000 == 0x4000
    for seconds, fraction in (
        (0x0C // 4, 0x84 // 4),
        (0x10 // 4, 0x88 // 4),
        (0x90 // 4, 0x94 // 4),
    ):
        late = words[:, seconds] > limit
        if seconds == 0x10 // 4:  # of files, cut_times.py has cut it where that is safe
            late &= folders
        changed |= bool(late.any())
        words[late, seconds] = limit
        words[late, fraction] = 0
    return words.tobytes() if changed else None


def _collect(root: Path, folder: Path) -> dict[str, str]:
    """Copy kernel, initrd and the package list out of the unpacked system; return the versions
    worth naming.
    """
    for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
        found = sorted((root / "boot").glob(pattern))
        if not found:
            raise ImageError(
                f"needed a file boot/{pattern} in the new system, found none: "
                "does the recipe name a kernel package?"
            )
        shutil.copyfile(found[-1], folder / name)
    done = subprocess.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ImageError(
            f"cannot list the packages of the new system: {done.stderr.strip()[-300:]}"
        )
    (folder / "packages.txt").write_text(done.stdout, encoding="utf-8")
    versions = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    kernel = sorted((root / "boot").glob("vmlinuz-*"))[-1].name.removeprefix("vmlinuz-")
    wanted = ("systemd", "firefox-esr", "openbox", "python3", "tmux", "claws-mail")
    return {
        "kernel": kernel,
        **{package: versions[package] for package in wanted if package in versions},
    }


def _remove(folder: Path) -> None:
    """Remove a work folder, whoever owns its files."""
    if folder.exists() and os.getuid() != 0:
        subprocess.run([*_inside(), "rm", "-rf", str(folder / "root")], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)

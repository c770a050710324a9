"""Building a disk image from a recipe: mmdebstrap, then mke2fs; no loop device, no network but the package archive.

Everything happens in a folder aside and is renamed when whole. Works as root, or as a user with user namespaces.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from harmgym.errors import ImageError, MissingDependencyError
from harmgym.image import (
    FORMAT,
    Image,
    Manifest,
    Progress,
    Recipe,
    guest_files,
    image_folder,
    image_key,
    images_dir,
    load_recipe,
    open_image,
    sparse_sha256,
)

NEEDED_BYTES = 5 << 30
"""Free space that a build asks for: unpacked system, packages and finished disk together take about 3.5 GiB."""
# Read from outside by harmgym/disk: extents, but no journal and nothing that would only make reading harder.
EXT4_FEATURES = "^has_journal,^metadata_csum,^64bit,^inline_data,^dir_index,^resize_inode,^orphan_file,extent,filetype,flex_bg"
BUILD_ONLY = "harmgym-build"
"""Folder in the new system for what only the build uses; removed at its end."""
EARLY = ("etc/initramfs-tools/", "usr/share/initramfs-tools/")
# What apt on this host was told about reaching an archive holds for the build too.
APT_OPTIONS = ("Acquire::http::", "Acquire::https::", "Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::Retries")


def build(name: str, progress: Progress) -> Image:
    """Build the image, waiting for another builder of the same one. Raises: ImageError, MissingDependencyError."""
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
    """Check programs, keyrings, rights and free space. Raises: MissingDependencyError, ImageError (one sentence each)."""
    programs = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "apt-get": "apt"}
    lacking = [package for program, package in programs.items() if _program(program) is None]
    lacking += [keyring.stem for keyring in recipe.keyrings if not keyring.exists()]
    if os.getuid() != 0 and _program("newuidmap") is None:
        lacking.append("uidmap")
    if lacking:
        raise MissingDependencyError(
            f"building an image needs {', '.join(lacking)}, found none; run: apt-get install {' '.join(lacking)}"
        )
    if os.getuid() != 0 and subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode != 0:
        raise ImageError(
            "building an image needs root or user namespaces, found neither; run it with sudo, "
            "or allow namespaces: sysctl -w kernel.unprivileged_userns_clone=1"
        )
    for folder in {images_dir(), _scratch()}:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            raise ImageError(
                f"building an image needs {NEEDED_BYTES >> 30} GiB free in {folder}, found {free / (1 << 30):.1f} GiB; "
                "free some space, or set HARMGYM_CACHE to a folder on another disk"
            )


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _scratch() -> Path:
    """Return where the system is unpacked: beside the image as root, else where the mapped users of a namespace may go."""
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


def _build_into(folder: Path, name: str, key: str, recipe: Recipe, files: dict[str, bytes], progress: Progress) -> None:
    start = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=f".unpacked-{name}-", dir=_scratch()))
    work.chmod(0o755)
    try:
        _unpack(work, recipe, _packed(recipe, key, files), images_dir() / f"{name}-build.log", progress)
        progress("writing the disk")
        _write_disk(work / "root", folder, recipe, key)
        versions = _collect(work / "root", folder)
    finally:
        _remove(work)
    progress("taking digests")
    manifest = Manifest(
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
        sha256={name: sparse_sha256(folder / name) for name in ("disk.raw", "vmlinuz", "initrd.img")},
    )
    (folder / "image.json").write_text(json.dumps(manifest.model_dump(), indent=2) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o755)


# Packages ------------------------------------------------------------------------------------------------------------------


def _packed(recipe: Recipe, key: str, files: dict[str, bytes]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files that must lie before packages are set up (they shape the initrd), and those that come after."""
    early = {path: data for path, data in files.items() if path.startswith(EARLY)}
    late = {_place(path): data for path, data in files.items() if path not in early}
    return early, {**late, f"{BUILD_ONLY}/environment": _environment(recipe, key)}


def _unpack(
    work: Path, recipe: Recipe, packed: tuple[dict[str, bytes], dict[str, bytes]], log: Path, progress: Progress
) -> None:
    """Run mmdebstrap into work/root, with the guest files laid in and customize.sh run."""
    early, late = work / "early.tar", work / "late.tar"
    for path, contents in zip((early, late), packed, strict=True):
        _write_tar(path, contents, recipe.files_until)
    command = [*_mmdebstrap(recipe)]
    command += [f"--essential-hook=tar-in {early} /", f"--customize-hook=tar-in {late} /"]
    command += [f'--customize-hook=chroot "$1" sh -c "set -a; . /{BUILD_ONLY}/environment; sh /{BUILD_ONLY}/customize.sh"']
    command += [f'--customize-hook=rm -r "$1/{BUILD_ONLY}"']
    command += [recipe.suite, str(work / "root"), *sources(recipe)]
    progress("downloading packages")
    _run_logged(command, log, progress)


def _place(path: str) -> str:
    """Return where a guest file goes: the daemon to /usr/lib/harmgym, loose files to the build's own folder, the rest stays."""
    if path.startswith("guestd/"):
        return f"usr/lib/harmgym/{path}"
    return path if "/" in path else f"{BUILD_ONLY}/{path}"


def _mmdebstrap(recipe: Recipe) -> list[str]:
    mode = "root" if os.getuid() == 0 else "unshare"
    command = ["mmdebstrap", "--verbose", f"--mode={mode}", "--format=directory", "--variant=apt"]
    command += ["--skip=check/empty", "--skip=cleanup/reproducible"]  # the latter would empty machine-id
    command += [f"--include={','.join((recipe.kernel, *recipe.packages))}"]
    command += [f"--keyring={keyring}" for keyring in recipe.keyrings]
    command += ["--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none", *_host_apt_options()]
    command += ["--dpkgopt=force-confold", "--dpkgopt=force-unsafe-io"]
    return command + [f"--dpkgopt=path-exclude={path}" for path in recipe.exclude_paths]


def _host_apt_options() -> list[str]:
    """Return this host's apt settings on proxies and dates as mmdebstrap options."""
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True)
    lines = [line.rstrip(";") for line in done.stdout.splitlines() if line.startswith(APT_OPTIONS) and '""' not in line]
    return [f"--aptopt={line}" for line in lines]


def sources(recipe: Recipe) -> list[str]:
    """Return the lines of sources.list. Addresses: HARMGYM_MIRROR (for the first), else those that this host's apt uses
    for the same suites, else the recipe's."""
    known = _host_archives() if _host_distribution() == recipe.distribution else {}
    lines = []
    for index, source in enumerate(recipe.sources):
        mirror = os.environ.get("HARMGYM_MIRROR") if index == 0 else None
        archive = mirror or known.get(source.suite) or source.archive
        lines.append(f"deb {archive.rstrip('/')} {source.suite} {' '.join(source.components)}")
    return lines


def _host_distribution() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
            if line.startswith("ID="):
                return line[3:].strip('"')
    return ""


def _host_archives() -> dict[str, str]:
    """Return suite -> archive address, as apt on this host is set up."""
    form = ["--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(["apt-get", "indextargets", *form], capture_output=True, text=True)
    pairs = [line.split() for line in done.stdout.splitlines()]
    return {pair[0]: pair[1] for pair in reversed(pairs) if len(pair) == 2 and pair[1].startswith("http")}


def _environment(recipe: Recipe, key: str) -> bytes:
    """Return the shell variables that customize.sh reads."""
    values = {
        "HG_USER": recipe.user,
        "HG_PASSWORD": recipe.password,
        "HG_HOSTNAME": recipe.hostname,
        "HG_APP_USERS": " ".join(recipe.app_users),
        "HG_ENABLE": " ".join(recipe.services.enable),
        "HG_MASK": " ".join(recipe.services.mask),
        "HG_MACHINE_ID": hashlib.sha256(f"machine {recipe.hostname}".encode()).hexdigest()[:32],
        "HG_FILES_UNTIL": recipe.files_until.isoformat() + "Z",
        "HG_KEY": key,
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()).encode()


def _write_tar(path: Path, files: dict[str, bytes], until: datetime.datetime) -> None:
    """Write files of root, 0755 when they start with "#!", else 0644. A wheel keeps no modes, so none are taken from disk."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        folders = sorted({parent.as_posix() for name in files for parent in Path(name).parents} - {"."})
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, _epoch(until)
            tar.addfile(entry)
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if data.startswith(b"#!") else 0o644
            entry.mtime = _epoch(until)
            tar.addfile(entry, io.BytesIO(data))
    path.chmod(0o644)


def _epoch(moment: datetime.datetime) -> int:
    return int(moment.replace(tzinfo=datetime.UTC).timestamp())


def _run_logged(command: Sequence[str], log: Path, progress: Progress) -> None:
    """Run mmdebstrap, its output into `log`, its stages into `progress`. Raises: ImageError with the last errors."""
    lines: list[str] = []
    done = 0
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                out.write(line)
                lines = [*lines[-60:], line.rstrip()]
                if line.startswith("Setting up "):
                    done += 1
                    progress(f"setting up packages ({done})")
                elif line.startswith("I: "):
                    progress(line[3:].strip().rstrip("."))
            process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=30)
    if process.returncode:
        errors = [line for line in lines if line.startswith(("E:", "dpkg: error", "mmdebstrap"))] or lines[-3:]
        raise ImageError(f"mmdebstrap failed with exit code {process.returncode}: {' / '.join(errors[-4:])} (all of it: {log})")


# Disk ----------------------------------------------------------------------------------------------------------------------


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
    command = [_program("mke2fs") or "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", "262144", "-m", "1"]
    command += ["-O", EXT4_FEATURES, "-U", identity, "-L", "harmgym", "-E", options, "-d", str(root), str(scratch)]
    done = subprocess.run([*_inside(), *command], capture_output=True, text=True)
    if done.returncode:
        raise ImageError(f"mke2fs failed with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    cut_times(scratch, recipe.files_until)
    shutil.move(scratch, folder / "disk.raw") if _same_device(scratch, folder) else _copy_sparse(scratch, folder / "disk.raw")


def _same_device(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _copy_sparse(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)], check=True, capture_output=True)


def cut_times(disk: Path, until: datetime.datetime) -> None:
    """Set the change and creation time of every inode, and the modification time of folders, to `until` (UTC) where later.

    They are the build's, in the guest's future: `find -cmin -10` would list the whole disk.
    """
    limit = _epoch(until)
    with disk.open("r+b") as file:
        file.seek(1024)
        superblock = file.read(1024)
        block = 1024 << int.from_bytes(superblock[24:28], "little")
        per_group, size = int.from_bytes(superblock[40:44], "little"), int.from_bytes(superblock[88:90], "little")
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
    """Return an inode table with its times cut at `limit`, or None when nothing changed. Offsets: ext4's struct inode."""
    import numpy as np

    words = np.frombuffer(table, dtype="<u4").reshape(-1, size // 4).copy()
    changed = False
    folders = words[:, 0] & 0xF000 == 0x4000
    for seconds, fraction in ((0x0C // 4, 0x84 // 4), (0x10 // 4, 0x88 // 4), (0x90 // 4, 0x94 // 4)):
        late = words[:, seconds] > limit
        if seconds == 0x10 // 4:  # of files, cut_times.py has cut it where that is safe
            late &= folders
        changed |= bool(late.any())
        words[late, seconds] = limit
        words[late, fraction] = 0
    return words.tobytes() if changed else None


def _collect(root: Path, folder: Path) -> dict[str, str]:
    """Copy kernel, initrd and the package list out of the unpacked system; return the versions worth naming."""
    for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
        found = sorted((root / "boot").glob(pattern))
        if not found:
            raise ImageError(
                f"needed a file boot/{pattern} in the new system, found none: does the recipe name a kernel package?"
            )
        shutil.copyfile(found[-1], folder / name)
    done = subprocess.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"], capture_output=True, text=True
    )
    if done.returncode:
        raise ImageError(f"cannot list the packages of the new system: {done.stderr.strip()[-300:]}")
    (folder / "packages.txt").write_text(done.stdout, encoding="utf-8")
    versions = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    kernel = sorted((root / "boot").glob("vmlinuz-*"))[-1].name.removeprefix("vmlinuz-")
    wanted = ("systemd", "firefox-esr", "openbox", "python3", "tmux", "claws-mail")
    return {"kernel": kernel, **{package: versions[package] for package in wanted if package in versions}}


def _remove(folder: Path) -> None:
    """Remove a work folder, whoever owns its files."""
    if folder.exists() and os.getuid() != 0:
        subprocess.run([*_inside(), "rm", "-rf", str(folder / "root")], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)

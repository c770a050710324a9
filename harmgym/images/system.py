"""The unpacked system of an image: packages by mmdebstrap, then the guest files and customize.sh on
top.

The packages alone take minutes and change seldom, so they are kept as one tar file per recipe: a
changed guest file costs a fraction of the first build.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from harmgym.errors import ImageError
from harmgym.images.image import FORMAT, Progress, Recipe, images_dir

BUILD_ONLY = "harmgym-build"
"""Directory in the new system for what only the build uses; removed at its end."""
EARLY = ("etc/initramfs-tools/", "usr/share/initramfs-tools/")
"""Guest files that must be there before packages are set up: they shape the initrd."""
# What apt on this host was told about reaching an archive holds for the build too.
APT_OPTIONS = (
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Retries",
)


def unpack(
    work: Path, name: str, key: str, recipe: Recipe, files: dict[str, bytes], progress: Progress
) -> Path:
    """Make the system in work/root and return that directory. Raises: ImageError with the last
    errors of mmdebstrap.
    """
    log = images_dir() / f"{name}-build.log"
    packages = _packages(work, name, recipe, files, log, progress)
    root, late = work / "root", work / "late.tar"
    placed = {_place(path): data for path, data in files.items() if not path.startswith(EARLY)}
    write_tar(
        late, {**placed, f"{BUILD_ONLY}/environment": environment(recipe, key)}, recipe.files_until
    )
    # Done with the packages; cleanup/reproducible would empty machine-id.
    skipped = ("update", "cleanup/apt", "cleanup/reproducible")
    command = [
        *_mmdebstrap("custom"),
        "--format=directory",
        *(f"--skip={stage}" for stage in skipped),
    ]
    # A user cannot unpack devices; where the directory exists, mmdebstrap lends the host's.
    command += ['--setup-hook=mkdir -p "$1/dev"']
    command += [f"--setup-hook=tar-in {packages} /", f"--customize-hook=tar-in {late} /"]
    script = f"set -a; . /{BUILD_ONLY}/environment; sh /{BUILD_ONLY}/customize.sh"
    command += [f'--customize-hook=chroot "$1" sh -c "{script}"']
    # The empty suite: nothing is downloaded, the packages come from the tar file.
    command += [f'--customize-hook=rm -r "$1/{BUILD_ONLY}"', "", str(root)]
    progress("adding the guest files")
    _run_logged(command, log, lambda text: None, append=True)
    return root


def _packages(
    work: Path, name: str, recipe: Recipe, files: dict[str, bytes], log: Path, progress: Progress
) -> Path:
    """Return the tar file of the recipe's installed packages, made now or kept from an earlier
    build.
    """
    early = {path: data for path, data in files.items() if path.startswith(EARLY)}
    kept = images_dir() / f".packages-{name}-{packages_key(recipe, early)[:12]}.tar"
    if kept.exists():
        progress("taking the packages of an earlier build")
        log.unlink(missing_ok=True)
        return kept
    write_tar(work / "early.tar", early, recipe.files_until)
    aside = work / "packages.tar"
    # Without devices, because an ordinary user could not unpack them again.
    command = [*_mmdebstrap("apt"), "--format=tar", "--skip=output/dev"]
    command += [f"--include={','.join((recipe.kernel, *recipe.packages))}"]
    command += [f"--keyring={keyring}" for keyring in recipe.keyrings]
    command += [
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=Acquire::Languages none",
        *_host_apt_options(),
    ]
    # unsafe-io: a build that a power cut ends is started again, so dpkg need not sync each file.
    command += ["--dpkgopt=force-confold", "--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude={path}" for path in recipe.exclude_paths]
    # Before the kernel's package is configured, because that makes the initrd.
    command += [f"--essential-hook=tar-in {work / 'early.tar'} /"]
    command += [recipe.suite, str(aside), *sources(recipe)]
    progress("downloading packages")
    _run_logged(command, log, progress)
    for old in images_dir().glob(f".packages-{name}-*.tar"):
        old.unlink()
    aside.chmod(0o644)
    shutil.move(aside, kept)  # `work` may be on another disk
    return kept


def packages_key(recipe: Recipe, early: dict[str, bytes]) -> str:
    """Return the digest of what the packages' tar file depends on."""
    part = recipe.model_dump_json(
        include={"suite", "sources", "kernel", "packages", "exclude_paths"}
    )
    total = hashlib.sha256(f"{FORMAT}\n{part}\n{sources(recipe)}\n".encode())
    for path, data in sorted(early.items()):
        total.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return total.hexdigest()


def _mmdebstrap(variant: str) -> list[str]:
    mode = "root" if os.getuid() == 0 else "unshare"
    options = [f"--mode={mode}", f"--variant={variant}", "--skip=check/empty"]
    return ["mmdebstrap", "--verbose", *options]


def _place(path: str) -> str:
    """Return where a guest file goes: the daemon to /usr/lib/harmgym, loose files to the build's
    own folder, the rest stays.
    """
    if path.startswith("guestd/"):
        return f"usr/lib/harmgym/{path}"
    return path if "/" in path else f"{BUILD_ONLY}/{path}"


def _host_apt_options() -> list[str]:
    """Return this host's apt settings on proxies and dates as mmdebstrap options."""
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True)
    lines = [
        line.rstrip(";")
        for line in done.stdout.splitlines()
        if line.startswith(APT_OPTIONS) and '""' not in line
    ]
    return [f"--aptopt={line}" for line in lines]


def sources(recipe: Recipe) -> list[str]:
    """Return the lines of sources.list. Addresses: HARMGYM_MIRROR (for the first), else those
    that this host's apt uses for the same suites, else the recipe's."""
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
    # Reversed, so that of several archives of one suite the first that apt asks is kept.
    return {
        pair[0]: pair[1]
        for pair in reversed(pairs)
        if len(pair) == 2 and pair[1].startswith("http")
    }


def environment(recipe: Recipe, key: str) -> bytes:
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
        "HG_SOURCES": "\n".join(
            f"deb {s.archive} {s.suite} {' '.join(s.components)}" for s in recipe.sources
        ),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()).encode()


def write_tar(path: Path, files: dict[str, bytes], until: datetime.datetime) -> None:
    """Write files of root, 0755 when they start with "#!", else 0644. A wheel keeps no modes, so
    none are taken from disk.
    """
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        folders = sorted(
            {parent.as_posix() for name in files for parent in Path(name).parents} - {"."}
        )
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, epoch(until)
            tar.addfile(entry)
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if data.startswith(b"#!") else 0o644
            entry.mtime = epoch(until)
            tar.addfile(entry, io.BytesIO(data))
    path.chmod(0o644)


def epoch(moment: datetime.datetime) -> int:
    return int(moment.replace(tzinfo=datetime.UTC).timestamp())


def _run_logged(
    command: Sequence[str], log: Path, progress: Progress, append: bool = False
) -> None:
    """Run mmdebstrap, its output into `log`, its stages into `progress`. Raises: ImageError with
    the last errors.
    """
    lines: list[str] = []
    done = 0
    with log.open("a" if append else "w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
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
        errors = [
            line for line in lines if line.startswith(("E:", "dpkg: error", "mmdebstrap"))
        ] or lines[-3:]
        raise ImageError(
            f"mmdebstrap failed with exit code {process.returncode}: "
            f"{' / '.join(errors[-4:])} (all of it: {log})"
        )

"""Disk images: recipes read from vm_images/, found in the cache by content, verified by booting.

An image is a raw ext4 file system (the whole disk), a kernel and an initrd. Its key is a digest of
everything that goes into it, so a changed recipe or guest file makes another image and never an
outdated one. Building: `harmgym.images.build`.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import Field, field_validator

from harmgym.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from harmgym.errors import ImageError, InputError
from harmgym.paths import cache_dir, content
from harmgym.records import Record, did_you_mean, parse_record, read_json

FORMAT = 1
"""Version of what build.py and system.py make of a recipe; raise it when the result changes."""
READY_COMMAND = "/usr/lib/harmgym/ready"
Progress = Callable[[str], None]
UNIT = r"^[A-Za-z0-9@._:-]+\.(service|socket|timer|target|automount|mount|path)$"


class Source(Record):
    """One line of the package archive's addresses."""

    archive: str = Field(pattern=r"^https?://\S+$")
    suite: str = Field(pattern=r"^[a-z0-9-]+$")
    components: tuple[str, ...] = Field(min_length=1)


class Services(Record):
    """systemd units that are started at boot, and units that can never start."""

    enable: tuple[str, ...]
    mask: tuple[str, ...]

    @field_validator("enable", "mask")
    @classmethod
    def _unit_names(cls, units: tuple[str, ...]) -> tuple[str, ...]:
        for unit in units:
            if not re.match(UNIT, unit):
                raise ValueError(
                    f"{unit!r} is not the name of a systemd unit such as 'cron.service'"
                )
        return units


class Screen(Record):
    """Size of the desktop in pixels."""

    width: int
    height: int


class Recipe(Record):
    """vm_images/<name>/recipe.yaml. Sizes in MiB and GiB; `files_until` is UTC."""

    title: str
    distribution: str
    suite: str
    keyrings: tuple[Path, ...]
    sources: tuple[Source, ...] = Field(min_length=1)
    kernel: str
    packages: tuple[str, ...] = Field(min_length=1)
    exclude_paths: tuple[str, ...]
    hostname: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    user: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    password: str = Field(min_length=1)
    app_users: tuple[str, ...]
    services: Services
    memory_mib: int = Field(ge=512, le=16384)
    disk_gib: int = Field(ge=2, le=64)
    screen: Screen
    files_until: datetime.datetime
    cmdline: str

    @field_validator("screen")
    @classmethod
    def _screen_fits(cls, screen: Screen) -> Screen:
        if (screen.width, screen.height) != (SCREEN_WIDTH, SCREEN_HEIGHT):
            raise ValueError(
                f"observations are {SCREEN_WIDTH}x{SCREEN_HEIGHT}, "
                f"found {screen.width}x{screen.height}"
            )
        return screen


class ImageManifest(Record):
    """image.json beside the disk: what the image is made of. `sha256` has the digests of disk,
    kernel and initrd.
    """

    format: int
    name: str
    key: str
    title: str
    cmdline: str
    memory_mib: int
    disk_bytes: int
    user: str
    built_at: str
    seconds: float
    versions: dict[str, str]
    sha256: dict[str, str]


class Image(Record):
    """A built image. All paths are absolute; `disk` is read-only for everybody."""

    name: str
    key: str
    folder: Path
    manifest: ImageManifest

    @property
    def disk(self) -> Path:
        """Raw ext4 file system over the whole disk, sparse."""
        return self.folder / "disk.raw"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"

    @property
    def packages(self) -> Path:
        """Text file: one installed package and its version a line."""
        return self.folder / "packages.txt"

    @property
    def cmdline(self) -> str:
        return self.manifest.cmdline

    @property
    def memory_mib(self) -> int:
        return self.manifest.memory_mib

    @property
    def ready_command(self) -> str:
        """Shell command that succeeds in the guest once the desktop is up."""
        return READY_COMMAND


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with harmgym."""
    return sorted(path.parent.name for path in content("vm_images").glob("*/recipe.yaml"))


def load_recipe(name: str) -> Recipe:
    """Read vm_images/<name>/recipe.yaml.

    Raises: ImageError for an unknown name or a broken recipe, naming file and key.
    """
    names = recipe_names()
    if name not in names:
        raise ImageError(
            f"unknown image {name!r}{did_you_mean(name, names)} "
            f"(there are: {', '.join(names) or 'none'})"
        )
    path = content("vm_images") / name / "recipe.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise ImageError(f"{path}: not valid YAML ({err})") from None
    return parse_record(data, Recipe, str(path), ImageError)


def guest_files() -> dict[str, bytes]:
    """Return what is copied into every image: path under vm_images/guest -> content. Notes (*.md)
    stay outside.
    """
    root = content("vm_images") / "guest"
    tools = {"__pycache__", ".mypy_cache", ".ruff_cache"}
    files = (
        p
        for p in root.rglob("*")
        if p.is_file() and not tools & set(p.parts) and p.suffix not in (".md", ".pyc")
    )
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(files)}


def image_key(recipe: Recipe, files: dict[str, bytes]) -> str:
    """Return the digest of everything that goes into an image: recipe, guest files, builder format
    (64 hex digits).
    """
    # Not the archive's state: packages that were updated since would make every image outdated.
    total = hashlib.sha256(f"{FORMAT}\n{recipe.model_dump_json()}\n".encode())
    for path, data in sorted(files.items()):
        total.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return total.hexdigest()


def images_dir() -> Path:
    """Return the directory of built images."""
    return cache_dir() / "images"


def image_folder(name: str, key: str) -> Path:
    """Return where the image with this key is, built or not."""
    return images_dir() / f"{name}-{key[:12]}"


def find_image(name: str) -> Image | None:
    """Return the built image of the present recipe, or None.

    Raises: ImageError for an unknown recipe, or for a damaged image (with the way to fix it).
    """
    key = image_key(load_recipe(name), guest_files())
    folder = image_folder(name, key)
    return open_image(folder, name, key) if folder.exists() else None


def open_image(folder: Path, name: str, key: str) -> Image:
    """Read a built image and check names and sizes of its files; for digests, `check_digests`."""
    # Every start of a machine comes here: digests of a disk of a GiB would cost it seconds.
    fix = f"remove {folder} and run: harmgym image build {name}"
    try:
        data = read_json(folder / "image.json")
        manifest = parse_record(data, ImageManifest, str(folder / "image.json"))
    except InputError as err:
        raise ImageError(f"image {name!r} is damaged ({err}); {fix}") from None
    image = Image(name=name, key=key, folder=folder, manifest=manifest)
    if manifest.key != key:
        raise ImageError(
            f"image {name!r} in {folder} was built from another recipe ({manifest.key[:12]}); {fix}"
        )
    for path, size in (
        (image.disk, manifest.disk_bytes),
        (image.kernel, None),
        (image.initrd, None),
        (image.packages, None),
    ):
        found = path.stat().st_size if path.is_file() else -1
        if found < 0 or size not in (None, found):
            what = "missing" if found < 0 else f"{found} bytes"
            raise ImageError(f"image {name!r} is damaged ({path.name}: {what}); {fix}")
    return image


def check_digests(image: Image) -> None:
    """Compare disk, kernel and initrd with the digests taken at the build. Raises: ImageError
    naming the file.
    """
    for path in (image.disk, image.kernel, image.initrd):
        found = sparse_sha256(path)
        if found != image.manifest.sha256[path.name]:
            needed = image.manifest.sha256[path.name]
            raise ImageError(
                f"image {image.name!r} is damaged: {path} has digest {found[:12]}, "
                f"needed {needed[:12]}; remove {image.folder} and run: "
                f"harmgym image build {image.name}"
            )


def sparse_sha256(path: Path) -> str:
    """Return a digest of a file's size and its non-zero MiB blocks with their places; holes cost
    nothing.
    """
    # Zeros are skipped where they are stored too: a copy may have other holes than its original.
    block = 1 << 20
    total = hashlib.sha256(str(path.stat().st_size).encode())
    with path.open("rb") as file:
        size, at = path.stat().st_size, 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // block * block
            except OSError:  # ENXIO: nothing but a hole up to the end
                break
            data = os.pread(file.fileno(), block, at)
            if data.count(0) != len(data):
                total.update(at.to_bytes(8, "big") + data)
            at += block
    return total.hexdigest()

"""Recipes, keys, the cache of images, and the builder around mmdebstrap."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from harmgym.errors import ImageError, MissingDependencyError
from harmgym.images import build as image_build
from harmgym.images import image as images
from harmgym.images import system as image_system
from harmgym.images.build import ensure_image
from harmgym.images.image import (
    find_image,
    guest_files,
    image_key,
    load_recipe,
    recipe_names,
    sparse_sha256,
)
from harmgym.images.verify import problems
from harmgym.paths import content

UNTIL = datetime.datetime(2025, 6, 1)
UNTIL_S = 1748736000
needs_ext4 = pytest.mark.skipif(
    shutil.which("mke2fs", path="/usr/sbin:/sbin:" + os.environ["PATH"]) is None,
    reason="needs mke2fs: apt-get install e2fsprogs",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARMGYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of vm_images/ that a test may change."""
    folder = tmp_path / "vm_images"
    shutil.copytree(content("vm_images"), folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(images, "content", lambda kind: tmp_path / kind)
    return folder


def edit(recipes: Path, **changes: Any) -> None:
    path = recipes / "debian-12" / "recipe.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


# Recipes


def test_ubuntu_differs_from_debian_in_archive_suite_and_package_names_only() -> None:
    assert recipe_names() == ["debian-12", "ubuntu-24.04"]
    debian, ubuntu = load_recipe("debian-12"), load_recipe("ubuntu-24.04")
    different = {name for name, value in debian if getattr(ubuntu, name) != value}
    assert different == {"title", "distribution", "suite", "sources", "keyrings", "kernel"}


def test_unknown_image_names_the_nearest() -> None:
    with pytest.raises(ImageError, match="unknown image 'debian12'; did you mean 'debian-12'"):
        load_recipe("debian12")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"packges": []}, "unknown key 'packges'; did you mean 'packages'"),
        ({"memory_mib": 100}, "memory_mib: .*512"),
        ({"screen": {"width": 800, "height": 600}}, "observations are 1280x800, found 800x600"),
        (
            {"services": {"enable": ["cron"], "mask": []}},
            "'cron' is not the name of a systemd unit",
        ),
        ({"sources": [{"archive": "ftp://x", "suite": "a", "components": ["main"]}]}, "archive"),
    ],
)
def test_broken_recipe_names_file_and_key(
    recipes: Path, changes: dict[str, Any], said: str
) -> None:
    edit(recipes, **changes)
    with pytest.raises(ImageError, match=said) as caught:
        load_recipe("debian-12")
    assert "recipe.yaml" in str(caught.value)


def test_broken_yaml_is_one_sentence(recipes: Path) -> None:
    (recipes / "debian-12" / "recipe.yaml").write_text("title: [")
    with pytest.raises(ImageError, match="not valid YAML"):
        load_recipe("debian-12")


def test_key_follows_recipe_and_guest_files_but_not_notes(recipes: Path) -> None:
    def key() -> str:
        return image_key(load_recipe("debian-12"), guest_files())

    first = key()
    assert key() == first
    (recipes / "guest" / "NOTES.md").write_text("no part of the image")
    (recipes / "guest" / "guestd" / "__pycache__").mkdir()
    (recipes / "guest" / "guestd" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert key() == first
    (recipes / "guest" / "etc" / "tmux.conf").write_text("set -g status on\n")
    second = key()
    edit(recipes, memory_mib=1536)
    assert len({first, second, key()}) == 3


def test_what_the_image_needs_to_keep_its_promises_is_in_the_recipe() -> None:
    recipe = load_recipe("debian-12")
    files = guest_files()
    for unit in recipe.services.enable:
        assert not unit.startswith("harmgym-") or f"etc/systemd/system/{unit}" in files
    assert not set(recipe.services.enable) & set(recipe.services.mask)
    assert b"kernel.yama.ptrace_scope = 3" in files["etc/sysctl.d/60-harmgym.conf"]
    assert files["usr/lib/harmgym/ready"].startswith(b"#!/bin/sh")


# The cache


def test_nothing_built_is_none(cache: Path) -> None:
    assert find_image("debian-12") is None


def test_digest_sees_every_byte_and_its_place_and_takes_holes_for_zeros(tmp_path: Path) -> None:
    def digest(size: int, *writes: tuple[int, bytes]) -> str:
        path = tmp_path / "file"
        with path.open("wb") as file:
            file.truncate(size)
            for at, data in writes:
                file.seek(at)
                file.write(data)
        return sparse_sha256(path)

    mib = 1 << 20
    hole = digest(8 * mib)
    assert hole == digest(8 * mib, (3 * mib, bytes(2 * mib)))
    found = {
        hole,
        digest(7 * mib),
        digest(8 * mib, (5, b"a")),
        digest(8 * mib, (5, b"b")),
        digest(8 * mib, (5 * mib, b"a")),
    }
    assert len(found) == 5


# The builder

FAKE_MMDEBSTRAP = """#!/bin/sh
for last; do
    case $last in
    */packages.tar)
        echo "I: unpacking"
        echo "Setting up something (1.0) ..."
        PACKAGES
        : > "$last"
        exit 0 ;;
    */root) root=$last ;;
    esac
done
mkdir -p "$root/boot" "$root/var/lib/dpkg/info" "$root/etc"
echo kernel > "$root/boot/vmlinuz-6.1"
echo initrd > "$root/boot/initrd.img-6.1"
echo desktop > "$root/etc/hostname"
printf '%s\\n' 'Package: openbox' 'Status: install ok installed' 'Architecture: all' \\
    'Maintainer: x' 'Version: 3.6' > "$root/var/lib/dpkg/status"
SYSTEM
"""


def fake(packages: str = "", system: str = "") -> str:
    return FAKE_MMDEBSTRAP.replace("PACKAGES", packages).replace("SYSTEM", system)


@pytest.fixture
def mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for mmdebstrap, which takes minutes and an archive; everything after it is real."""
    for program in ("apt-get", "apt-config", "dpkg-query", "mke2fs"):
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"needs {program}")
    if os.getuid() != 0:
        pytest.skip("the stand-in does not imitate user namespaces: run as root")
    script = tmp_path / "bin" / "mmdebstrap"
    script.parent.mkdir()
    script.write_text(fake())
    script.chmod(0o755)
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(image_build, "NEEDED_BYTES", 1 << 20)
    return script


def leftovers(cache: Path) -> list[str]:
    return sorted(
        path.name for path in cache.iterdir() if path.name.startswith((".building", ".unpacked"))
    )


def test_an_image_is_built_found_again_and_checked(
    cache: Path, recipes: Path, mmdebstrap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(recipes, keyrings=[str(tmp_path / "keyring.gpg")])
    notes: list[str] = []
    built = ensure_image("debian-12", notes.append)
    assert "setting up packages (1)" in notes and "writing the disk" in notes
    assert built.folder.name == f"debian-12-{built.key[:12]}" and leftovers(cache) == []
    assert built.disk.stat().st_size == 4 << 30 and built.disk.stat().st_blocks * 512 < 1 << 30
    assert built.kernel.read_text() == "kernel\n" and built.packages.read_text() == "openbox 3.6\n"
    assert built.manifest.versions == {"kernel": "6.1", "openbox": "3.6"}
    mmdebstrap.write_text("#!/bin/sh\nexit 1\n")  # proves that the cache answers
    assert ensure_image("debian-12") == built
    images.check_digests(built)
    listing = subprocess.run(
        ["debugfs", "-R", "cat /etc/hostname", str(built.disk)], capture_output=True, text=True
    )
    assert listing.stdout == "desktop\n"


def test_a_changed_guest_file_needs_no_new_packages(
    cache: Path, recipes: Path, mmdebstrap: Path, tmp_path: Path
) -> None:
    edit(recipes, keyrings=[str(tmp_path / "keyring.gpg")])
    first = ensure_image("debian-12")
    mmdebstrap.write_text(fake(packages="exit 1"))
    (recipes / "guest" / "etc" / "tmux.conf").write_text("set -g status on\n")
    second = ensure_image("debian-12")
    assert second.folder != first.folder and first.disk.exists()
    edit(recipes, keyrings=[str(tmp_path / "keyring.gpg")], packages=["openbox"])
    with pytest.raises(ImageError, match="mmdebstrap failed with exit code 1"):
        ensure_image("debian-12")


def test_damage_is_named_with_the_way_to_fix_it(
    cache: Path, recipes: Path, mmdebstrap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(recipes, keyrings=[str(tmp_path / "keyring.gpg")])
    built = ensure_image("debian-12")
    built.disk.chmod(0o644)
    with built.disk.open("r+b") as file:
        file.seek(100 << 20)
        file.write(b"x")
    with pytest.raises(ImageError, match="damaged: .*disk.raw has digest"):
        images.check_digests(built)
    os.truncate(built.disk, 1000)
    with pytest.raises(
        ImageError,
        match=r"disk.raw: 1000 bytes\); remove .* and run: harmgym image build debian-12",
    ):
        find_image("debian-12")
    built.kernel.unlink()
    (built.folder / "image.json").write_text("{")
    with pytest.raises(ImageError, match="damaged"):
        ensure_image("debian-12")


def test_a_failed_build_says_why_and_leaves_nothing(
    cache: Path, recipes: Path, mmdebstrap: Path, tmp_path: Path
) -> None:
    edit(recipes, keyrings=[str(tmp_path / "keyring.gpg")])
    mmdebstrap.write_text(fake(packages="echo 'E: no such package: opnbox' >&2; exit 25"))
    with pytest.raises(
        ImageError,
        match=r"exit code 25: E: no such package: opnbox \(all of it: .*debian-12-build.log\)",
    ):
        ensure_image("debian-12")
    assert leftovers(cache) == [] and find_image("debian-12") is None
    assert "Setting up something" in (cache / "debian-12-build.log").read_text()


def test_a_system_without_kernel_is_refused(
    cache: Path, recipes: Path, mmdebstrap: Path, tmp_path: Path
) -> None:
    edit(recipes, keyrings=[str(tmp_path / "keyring.gpg")])
    mmdebstrap.write_text(fake(system='rm "${root:?}/boot/vmlinuz-6.1"'))
    with pytest.raises(ImageError, match=r"needed a file boot/vmlinuz-\*"):
        ensure_image("debian-12")
    assert leftovers(cache) == []


def test_the_second_builder_waits_and_says_so(cache: Path) -> None:
    notes: list[str] = []
    waiting, entered = threading.Event(), threading.Event()

    def note(text: str) -> None:
        notes.append(text)
        waiting.set()

    def second() -> None:
        with image_build._lock("debian-12", note):
            entered.set()

    with image_build._lock("debian-12", notes.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10) and not entered.is_set()
    assert entered.wait(10)
    thread.join(10)
    assert notes == ["another process is building image debian-12, waiting for it"]


def test_missing_programs_are_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    monkeypatch.setattr(image_build, "_program", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"apt-get install .*mmdebstrap.*e2fsprogs"):
        image_build.preflight(load_recipe("debian-12"))


def test_too_little_space_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, cache: Path, recipes: Path, mmdebstrap: Path
) -> None:
    edit(recipes, keyrings=[])
    monkeypatch.setattr(image_build, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(
        ImageError, match=r"needs 1073741824 GiB free in .*, found .* GiB; free some space"
    ):
        image_build.preflight(load_recipe("debian-12"))


def test_addresses_come_from_the_mirror_then_this_host_then_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipes: Path
) -> None:
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(
        "#!/bin/sh\necho 'bookworm http://near.example/debian/'\necho 'bookworm file:///cdrom/'\n"
    )
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("HARMGYM_MIRROR", raising=False)
    recipe = load_recipe("debian-12")
    own = "deb http://deb.debian.org/debian-security bookworm-security main"
    monkeypatch.setattr(image_system, "_host_distribution", lambda: "debian")
    assert image_system.sources(recipe) == ["deb http://near.example/debian bookworm main", own]
    monkeypatch.setattr(image_system, "_host_distribution", lambda: "ubuntu")
    assert image_system.sources(recipe) == ["deb http://deb.debian.org/debian bookworm main", own]
    monkeypatch.setenv("HARMGYM_MIRROR", "http://mirror.example/debian/")
    assert image_system.sources(recipe) == ["deb http://mirror.example/debian bookworm main", own]


def test_guest_files_are_packed_as_root_s_with_scripts_executable(tmp_path: Path) -> None:
    files = guest_files()
    assert any(path.startswith(image_system.EARLY) for path in files)
    late = {image_system._place(path): data for path, data in files.items()}
    for number in (1, 2):
        image_system.write_tar(tmp_path / f"{number}.tar", late, UNTIL)
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    with tarfile.open(tmp_path / "1.tar") as tar:
        entries = {entry.name: entry for entry in tar.getmembers()}
    assert {(e.uid, e.gid, e.mtime) for e in entries.values()} == {(0, 0, UNTIL_S)}
    assert (
        entries["usr/lib/harmgym/session"].mode == 0o755 and entries["etc/tmux.conf"].mode == 0o644
    )
    assert (
        "usr/lib/harmgym/guestd/__main__.py" in entries and "harmgym-build/customize.sh" in entries
    )
    assert not any(name.endswith(".md") for name in entries)


def test_the_shell_reads_every_value_as_it_was_written(tmp_path: Path) -> None:
    recipe = load_recipe("debian-12").model_copy(update={"password": 'a\'b "$HOME" `id`'})
    path = tmp_path / "environment"
    path.write_bytes(image_system.environment(recipe, "key"))
    shown = subprocess.run(
        ["sh", "-c", f'. {path}; printf %s "$HG_PASSWORD"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == recipe.password


# Times


@needs_ext4
def test_no_inode_of_the_disk_is_later_than_the_guest_s_clock(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "old").write_text("old")
    os.utime(tree / "old", (1_000_000_000, 1_000_000_000))
    (tree / "new").write_text("new")
    disk = tmp_path / "disk.raw"
    subprocess.run(["truncate", "-s", "64M", disk], check=True)
    mke2fs = image_build._program("mke2fs") or ""
    options = ["-t", "ext4", "-b", "4096", "-I", "256", "-O", image_build.EXT4_FEATURES]
    subprocess.run(
        [mke2fs, "-q", "-F", *options, "-d", tree, disk], check=True, capture_output=True
    )
    image_build.cut_times(disk, UNTIL)
    check = subprocess.run(
        [image_build._program("e2fsck") or "", "-fn", disk], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout

    def times(path: str) -> dict[str, int]:
        debugfs = image_build._program("debugfs") or ""
        text = subprocess.run(
            [debugfs, "-R", f"stat {path}", disk], capture_output=True, text=True, check=True
        ).stdout
        found = re.findall(r"^\s*(ctime|mtime|crtime): 0x([0-9a-f]+)", text, re.MULTILINE)
        return {name: int(seconds, 16) for name, seconds in found}

    assert times("/old") == {"ctime": UNTIL_S, "mtime": 1_000_000_000, "crtime": UNTIL_S}
    assert times("/folder") == {"ctime": UNTIL_S, "mtime": UNTIL_S, "crtime": UNTIL_S}
    assert times("/new")["ctime"] == UNTIL_S


def test_cut_sources_keep_their_byte_code(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("x = 1\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tmp_path)], check=True)
    old = tmp_path / "old.txt"
    old.write_text("old")
    os.utime(old, (5, 5))
    script = content("vm_images") / "guest" / "cut_times.py"
    subprocess.run([sys.executable, str(script), str(UNTIL_S), str(tmp_path)], check=True)
    (code,) = (tmp_path / "__pycache__").iterdir()
    assert struct.unpack("<4xII4x", code.read_bytes()[:16]) == (0, UNTIL_S)
    assert [int(path.stat().st_mtime) for path in (module, code, old, tmp_path)] == [
        UNTIL_S,
        UNTIL_S,
        5,
        UNTIL_S,
    ]


# Verification


def found(**changes: Any) -> dict[str, Any]:
    good = {
        "units": {"cron.service": "active"},
        "failed": [],
        "missing": [],
        "screen": ["1280x800"],
        "windows": ["N/A Panel", "desktop Terminal", "desktop Start page — Mozilla Firefox"],
        "fonts": "DejaVu Sans",
        "devices": ["lo"],
        "ptrace": "3",
        "modules": "1",
        "user": ["user", "sudo"],
        "root_window": 200,
        "idle": 0.01,
    }
    return {**good, **changes}


def test_a_good_desktop_has_no_problems() -> None:
    assert problems(found(), load_recipe("debian-12")) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"missing": ["cron"]}, "packages missing: cron"),
        ({"failed": ["ssh.service"]}, "units failed: ssh.service"),
        ({"units": {"cron.service": "inactive"}}, "units not active"),
        ({"screen": ["800x600"]}, "needed a screen of 1280x800, found ['800x600']"),
        ({"windows": ["desktop Terminal"]}, "needed terminal and browser windows"),
        ({"devices": ["eth0", "lo"]}, "needed no network but lo, found ['eth0', 'lo']"),
        ({"ptrace": "0"}, "the kernel is not sealed"),
        ({"user": ["user"]}, "'user' is not in group sudo"),
        ({"root_window": 0}, "the root window is black"),
        ({"idle": 0.5}, "below 6% of its core, found 50.0%"),
    ],
)
def test_every_fault_of_a_desktop_is_named(changes: dict[str, Any], said: str) -> None:
    (phrase,) = problems(found(**changes), load_recipe("debian-12"))
    assert said in phrase

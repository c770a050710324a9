"""`make setup`: says in one sentence what is wrong, and does nothing the second time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that set-up reads, in a folder of their own."""
    if any(
        shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None
        for name in PROGRAMS
    ):
        pytest.skip(f"needs {', '.join(PROGRAMS)}, so that set-up has no package to install")
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".no-chromium").touch()  # nothing may be installed from here
    return tmp_path


def setup(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / ".ci" / "setup"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_an_old_python_is_one_sentence(checkout: Path) -> None:
    old = script(checkout / "old", '[ "$1" = -c ] && exit 1; echo Python 3.10.2')
    done = setup(checkout, PYTHON=str(old))
    assert done.returncode == 2
    sentence = "harmgym set-up: needed Python 3.11 or newer, found Python 3.10.2"
    assert done.stderr.startswith(sentence) and done.stderr.count("\n") == 1


def test_a_failed_install_says_what_to_do_and_is_tried_again(checkout: Path) -> None:
    """A .venv whose pip fails: nothing is stamped as done."""
    (checkout / ".venv" / "bin").mkdir()
    script(
        checkout / ".venv" / "bin" / "python",
        'case "$*" in *version_info*) exit 0;; esac; echo no network >&2; exit 1',
    )
    done = setup(checkout)
    assert done.returncode == 2 and "no network" in done.stderr
    assert "pip could not install torch; fix: read pip's message above" in done.stderr
    assert not (checkout / ".venv" / ".setup-digest").exists()


def test_when_all_is_there_nothing_happens(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir()
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    script(checkout / ".venv" / "bin" / "harmgym", "exit 0")
    made_from = b"".join(
        (checkout / f).read_bytes() for f in ("pyproject.toml", ".ci/constraints.txt", ".ci/setup")
    )
    (checkout / ".venv" / ".setup-digest").write_text(hashlib.sha256(made_from).hexdigest() + "\n")
    before = {p: p.lstat().st_mtime_ns for p in checkout.rglob("*")}
    done = setup(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {p: p.lstat().st_mtime_ns for p in checkout.rglob("*")} == before


def test_every_install_uses_the_constraints() -> None:
    text = (ROOT / ".ci" / "setup").read_text()
    assert (
        "-c .ci/constraints.txt" in text
        and "torch==2.13.0" in (ROOT / ".ci" / "constraints.txt").read_text()
    )
    installs = [
        line
        for line in text.splitlines()
        if "pip install" in line and "pip=(" not in line and "die" not in line
    ]
    assert all(line.lstrip().startswith("#") for line in installs), (
        "use ${pip[@]}, which carries the constraints"
    )


def test_the_top_level_is_what_the_readme_promises() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in tracked.stdout.splitlines()}
    folders = {"harmgym", "envs", "vm_images", "agents", "tests", "benchmarks", "docs", ".ci"}
    files = {
        "pyproject.toml",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        ".gitignore",
    }
    assert top <= folders | files, top - folders - files

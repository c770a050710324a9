"""The wheel carries the content, and finds it where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as an installed wheel lays it out, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_content_file_travels(installed: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "envs", "vm_images", "agents"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            assert (installed / "harmgym" / "_content" / name).read_bytes() == (
                ROOT / name
            ).read_bytes(), name


def test_the_installed_package_finds_its_content(installed: Path, tmp_path: Path) -> None:
    code = (
        "import harmgym.paths as p; from harmgym.tasks.catalogue import list_tasks;"
        "from harmgym.scaffold.agent import list_agents; from harmgym.cli import app;"
        "from harmgym.images.image import recipe_names; from harmgym.report import html;"
        "print(p.content('envs'), len(list_tasks()), list_agents(), recipe_names()[0],"
        "      html._asset('style.css')[:5])"
    )
    env = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.startswith(f"{installed}/harmgym/_content/envs ")
        and "'reference'" in done.stdout
    )


def test_the_package_installs_nothing_beside_itself(installed: Path) -> None:
    names = {item.name for item in installed.iterdir() if not item.name.endswith(".dist-info")}
    assert names == {"harmgym"}


def test_the_metadata_names_the_licence_as_an_expression(installed: Path) -> None:
    (info,) = installed.glob("*.dist-info")
    metadata = (info / "METADATA").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    assert "License-Expression: Apache-2.0" in metadata and "License-File: LICENSE" in metadata
    assert not any(line.startswith("Classifier: License ::") for line in metadata)


def test_the_package_runs_as_a_module(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harmgym", "tasks", "list", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "security/home_world_writable" in done.stdout, done.stderr

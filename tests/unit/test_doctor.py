"""The doctor: every line says need and found, a failing one says how to fix it, and it never falls
over itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harmgym import doctor
from harmgym.errors import SnapshotError
from harmgym.machines.qemu import hardware


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARMGYM_CACHE", str(tmp_path / "cache"))


def by_name() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine()}


def test_every_line_says_what_is_needed_and_found() -> None:
    for finding in doctor.examine():
        assert finding.need and finding.found, finding
        assert finding.level == "ok" or finding.fix, (
            f"{finding.name} says that something is wrong, but not how to fix it"
        )


def test_a_fresh_host_lacks_image_and_snapshots_but_can_make_them() -> None:
    found = by_name()
    assert found["image"].level == "warn" and "harmgym image build" in found["image"].fix
    assert found["snapshots"].level == "warn" and found["accelerator"].level == "warn"


def test_missing_qemu_means_no_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    hardware.qemu_version.cache_clear()
    try:
        findings = doctor.examine()
    finally:
        hardware.qemu_version.cache_clear()
    broken = {f.name: f for f in findings if f.level == "fail"}
    assert "qemu" in broken and broken["qemu"].fix == "apt-get install qemu-system-x86 qemu-utils"
    assert "qemu-img" in broken and broken["qemu-img"].fix == "apt-get install qemu-utils"
    assert not doctor.healthy(findings)


def test_without_an_image_its_builder_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor.shutil,
        "which",
        lambda name, path=None: None if name == "mmdebstrap" else f"/usr/bin/{name}",
    )
    found = by_name()["image build"]
    assert (found.level, found.found, found.fix) == (
        "fail",
        "no mmdebstrap",
        "apt-get install mmdebstrap",
    )


def test_little_memory_and_disk_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harmgym.machines.pool.available_mib", lambda: 900)
    monkeypatch.setattr(
        doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 3 * 2**30})()
    )
    found = by_name()
    assert found["memory"].level == "fail" and found["memory"].found == "900 MiB free"
    assert found["disk"].level == "fail" and found["disk"].found.startswith("3.0 GiB free in ")


def test_a_cache_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert by_name()["disk"].level == "fail" and "HARMGYM_CACHE" in by_name()["disk"].fix


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> doctor.Answer:
        raise SnapshotError("manifest.json is damaged; rebuild it")

    monkeypatch.setattr(doctor, "_snapshots", broken)
    found = by_name()["snapshots"]
    assert found.level == "fail" and found.found == "manifest.json is damaged; rebuild it"


def test_an_old_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 0))
    assert by_name()["python"].level == "fail"

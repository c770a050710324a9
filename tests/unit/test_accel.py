"""The choice of an accelerator: by what boots, cached, and overridable."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmgym.errors import InputError
from harmgym.machines.qemu import accelerator as accel


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARMGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARMGYM_ACCELERATOR", raising=False)
    monkeypatch.setattr(accel, "qemu_version", lambda: "7.2.0")
    file = tmp_path / "vmlinuz"
    file.write_bytes(b"kernel")
    return file


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What the next probes find (None: a kernel boots); /dev/kvm is made to look usable."""
    answers: list[str | None] = []
    monkeypatch.setattr(accel.Path, "exists", lambda self: True)
    monkeypatch.setattr(accel.os, "access", lambda *_args: True)
    monkeypatch.setattr(accel, "_boots", lambda _kernel: answers.pop(0))
    return answers


def test_kvm_is_chosen_only_where_a_kernel_boots(kernel: Path, boots: list[str | None]) -> None:
    boots[:] = ["it hung", None]
    assert accel.probe(kernel).chosen == "tcg"
    assert accel.probe(kernel, fresh=True).chosen == "kvm"


def test_the_answer_is_kept_until_the_kernel_changes(kernel: Path, boots: list[str | None]) -> None:
    boots[:] = ["it hung", None]
    assert accel.probe(kernel) == accel.probe(kernel)
    kernel.write_bytes(b"another kernel")
    assert accel.probe(kernel).chosen == "kvm"


def test_a_damaged_answer_is_found_again(
    kernel: Path, boots: list[str | None], tmp_path: Path
) -> None:
    boots[:] = ["it hung", "it hung again"]
    accel.probe(kernel)
    (tmp_path / "cache" / "accelerator.json").write_text("{ not JSON")
    assert accel.probe(kernel).kvm == "it hung again"


def test_the_override_is_strict(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARMGYM_ACCELERATOR", "tcg")
    assert accel.probe(kernel).chosen == "tcg"
    monkeypatch.setenv("HARMGYM_ACCELERATOR", "hvf")
    with pytest.raises(InputError, match="'kvm' or 'tcg', found 'hvf'"):
        accel.probe(kernel)

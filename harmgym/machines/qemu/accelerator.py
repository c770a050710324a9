"""Which accelerator really works here: found by booting a kernel, never by the existence of
/dev/kvm.

On some hosts /dev/kvm opens and makes a VM, yet a guest kernel hangs. The probe boots the image's
own kernel without a root file system: it must come as far as the panic "Unable to mount root fs"
within the deadline.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Literal

from harmgym.errors import InputError
from harmgym.files import write_atomic
from harmgym.machines.qemu.hardware import QEMU, qemu_version
from harmgym.paths import cache_dir
from harmgym.records import Record, parse_record, read_json

KVM_DEADLINE_S = 15.0
Accelerator = Literal["kvm", "tcg"]


class Probe(Record):
    """What was tried and found. `chosen` is used for machines; `kvm` says why, or why not."""

    chosen: Accelerator
    kvm: str
    seconds: float


class Remembered(Record):
    """The file that keeps the answer: `key` names host boot, QEMU and kernel."""

    key: str
    probe: Probe


def probe(kernel: Path, fresh: bool = False) -> Probe:
    """Return the accelerator for this host; the answer is cached per boot of the host, QEMU version
    and kernel.

    ``HARMGYM_ACCELERATOR=kvm|tcg`` overrides the probe.
    """
    forced = os.environ.get("HARMGYM_ACCELERATOR")
    if forced:
        if forced not in ("kvm", "tcg"):
            raise InputError(f"needed HARMGYM_ACCELERATOR to be 'kvm' or 'tcg', found {forced!r}")
        return Probe(
            chosen="kvm" if forced == "kvm" else "tcg",
            kvm="not probed: HARMGYM_ACCELERATOR is set",
            seconds=0.0,
        )
    path, key = cache_dir() / "accelerator.json", _key(kernel)
    with contextlib.suppress(InputError):  # nothing remembered, or nothing that can be read
        known = parse_record(read_json(path), Remembered, str(path))
        if known.key == key and not fresh:
            return known.probe
    found = _probe(kernel)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, Remembered(key=key, probe=found).model_dump_json())
    return found


def _key(kernel: Path) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    stat = kernel.stat()
    host = boot.read_text().strip() if boot.exists() else "?"
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return f"{host} {qemu_version()} {stat.st_size} {kernel.name} {usable}"


def _probe(kernel: Path) -> Probe:
    start = time.monotonic()
    if not Path("/dev/kvm").exists():
        return Probe(chosen="tcg", kvm="no /dev/kvm on this host", seconds=0.0)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Probe(
            chosen="tcg",
            kvm="/dev/kvm is there but not accessible; add the user to the group kvm",
            seconds=0.0,
        )
    words = _boots(kernel)
    seconds = round(time.monotonic() - start, 2)
    return Probe(
        chosen="kvm" if words is None else "tcg",
        kvm=words or "a guest kernel boots",
        seconds=seconds,
    )


def _boots(kernel: Path) -> str | None:
    """Return None when a kernel boots under KVM, else what was seen."""
    command = [
        QEMU,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-serial",
        "stdio",
    ]
    command += ["-M", "pc-q35-7.2", "-accel", "kvm", "-cpu", "Nehalem", "-m", "256M"]
    command += ["-kernel", str(kernel), "-append", "console=ttyS0 panic=-1 quiet"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=KVM_DEADLINE_S
        )
    except subprocess.TimeoutExpired as err:
        seen = (err.stdout or b"").decode(errors="replace").strip().splitlines()
        last = repr(seen[-1]) if seen else "none"
        return (
            "/dev/kvm opens, but a guest kernel did not boot within"
            f" {KVM_DEADLINE_S:g} s (last line: {last})"
        )
    if b"Unable to mount root fs" in done.stdout:
        return None
    said = (done.stderr or done.stdout).decode(errors="replace").strip()
    return f"QEMU ended with {done.returncode}: {said[-300:]}"

"""The virtual hardware as QEMU arguments: one definition for templates, clones and cold boots.

A clone must have exactly the devices its snapshot was taken with, so `Hardware` goes whole into a
snapshot's manifest and key. Input devices are virtio: their queue holds 64 events and is drained by
interrupt, where a USB keyboard delivers one event in 8 ms and drops what does not fit in its queue
of 16.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harmgym.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from harmgym.errors import MissingDependencyError
from harmgym.records import Record

QEMU = "qemu-system-x86_64"
OLDEST_QEMU = (7, 2)
GUEST_PORT = "org.harmgym.guest.0"


@functools.cache
def qemu_version() -> str:
    """Return QEMU's version such as "7.2.22".

    Raises: MissingDependencyError when QEMU is not installed or older than 7.2.
    """
    if shutil.which(QEMU) is None:
        raise MissingDependencyError(
            f"needed {QEMU}, found none on PATH; install it with: apt-get install qemu-system-x86"
            " qemu-utils"
        )
    text = subprocess.run(
        [QEMU, "--version"], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", text)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_QEMU:
        found = text.splitlines()[0]
        raise MissingDependencyError(
            f"needed QEMU 7.2 or newer, found {found!r}; install a newer qemu-system-x86"
        )
    return ".".join(match.groups())


class Hardware(Record):
    """What the machine is made of. Sizes in MiB; `kernel` and `initrd` are files of the image."""

    accelerator: Literal["kvm", "tcg"]
    memory_mib: int = 1024
    cpus: int = 1
    machine_type: str = "pc-q35-7.2"
    cpu_model: str = "Nehalem"
    tb_cache_mib: int = 64
    kernel: Path
    initrd: Path
    cmdline: str

    def fingerprint(self) -> dict[str, object]:
        """Return what a snapshot depends on, without paths: two hosts with equal fingerprints can
        share a snapshot.
        """
        return {**self.model_dump(exclude={"kernel", "initrd"}), "qemu": qemu_version()}

    def arguments(
        self,
        memory_file: Path,
        template: bool,
        disk: Sequence[Path],
        qmp_fd: int,
        guest_fd: int,
        serial: Path,
        boot: bool,
    ) -> list[str]:
        """Return QEMU's argument list.

        `memory_file` backs the RAM: written through in a `template`, else mapped copy-on-write.
        `disk` is the chain, newest first: (overlay, …, raw image); only the overlay is written.
        Only a machine that is to `boot` gets a kernel: each process would hold its own copy of it,
        8 MiB, for nothing.
        """
        accel = (
            "kvm" if self.accelerator == "kvm" else f"tcg,thread=multi,tb-size={self.tb_cache_mib}"
        )
        args = [
            QEMU,
            "-name",
            "harmgym,debug-threads=on",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ]
        args += [
            "-M",
            f"{self.machine_type},memory-backend=mem,usb=off,smbus=off,vmport=off",
            "-accel",
            accel,
        ]
        args += ["-cpu", self.cpu_model, "-smp", str(self.cpus), "-m", f"{self.memory_mib}M"]
        share = "on" if template else "off"
        args += [
            "-object",
            f"memory-backend-file,id=mem,size={self.memory_mib}M,mem-path={memory_file}"
            f",share={share}",
        ]
        if boot:
            args += [
                "-kernel",
                str(self.kernel),
                "-initrd",
                str(self.initrd),
                "-append",
                self.cmdline,
            ]
        args += [
            "-rtc",
            "base=2025-06-02T09:00:00,clock=vm",
            "-nic",
            "none",
            "-no-shutdown",
            "-action",
            "panic=pause",
        ]
        args += ["-device", f"VGA,xres={SCREEN_WIDTH},yres={SCREEN_HEIGHT},edid=on,vgamem_mb=8"]
        args += [
            "-device",
            "virtio-keyboard-pci",
            "-device",
            "virtio-tablet-pci",
            "-device",
            "virtio-rng-pci",
        ]
        args += _disk_arguments(disk)
        args += ["-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control"]
        args += [
            "-device",
            "virtio-serial-pci,max_ports=2",
            "-chardev",
            f"socket,id=guest,fd={guest_fd}",
        ]
        # QEMU reports that the guest closed a port only where the port has an id.
        args += ["-device", f"virtserialport,id=guest-port,chardev=guest,name={GUEST_PORT}"]
        args += ["-chardev", f"file,id=serial,path={serial}", "-serial", "chardev:serial"]
        return args + [
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ]


def _disk_arguments(chain: Sequence[Path]) -> list[str]:
    """Return the block graph, oldest node first. Backing files are named here, never read from a
    header.
    """
    args: list[str] = []
    backing = ""
    for depth, path in enumerate(reversed(chain)):
        top = depth == len(chain) - 1
        frozen = "" if top else ",read-only=on"
        locking = "" if top else ",locking=off"
        # drop-cache=off: by default each file that an incoming migration activates is thrown out of
        # the host's page cache, so every restore would make all machines read their disk again.
        file = f"driver=file,node-name=file{depth},filename={path}{frozen}{locking}"
        args += ["-blockdev", f"{file},drop-cache=off,cache.no-flush=on"]
        driver = "raw" if depth == 0 else "qcow2"
        node = "disk" if top else f"node{depth}"
        format_node = f"driver={driver},node-name={node},file=file{depth}{backing}{frozen}"
        args += ["-blockdev", f"{format_node},cache.no-flush=on"]
        backing = f",backing={node}"
    return [*args, "-device", "virtio-blk-pci,drive=disk"]

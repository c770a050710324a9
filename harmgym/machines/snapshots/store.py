"""The snapshot store: built once, cached by content, restored as copy-on-write clones.

The base snapshot is a booted, settled desktop. A derived one is its parent plus a set-up, stored as
the difference. Every build happens in a folder aside and is renamed when whole; a file lock makes a
second builder wait and then find it. What is used is held against removal (`snapshots.cache`).
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from harmgym.errors import MachineError, SnapshotError
from harmgym.machines import folders as runtime
from harmgym.machines.protocol import JournalEntry
from harmgym.machines.qemu.accelerator import probe
from harmgym.machines.qemu.boot import REST_S, wait_desktop, wait_idle, wait_quiet_moment
from harmgym.machines.qemu.hardware import Hardware
from harmgym.machines.qemu.launcher import Launcher
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.qemu.process import wait_until
from harmgym.machines.snapshots.cache import entries, in_use, make_room, remove
from harmgym.machines.snapshots.delta import apply_delta, changed_since, inject, write_delta
from harmgym.machines.snapshots.phases import Phases
from harmgym.machines.snapshots.proof import LIMITS, Limits, Proof, prove
from harmgym.machines.snapshots.ram import differing_pages
from harmgym.machines.snapshots.scratch import ScratchRam
from harmgym.machines.snapshots.snapshot import (
    DERIVED_FORMAT,
    FORMAT,
    REBUILD,
    Manifest,
    Snapshot,
    check_digests,
    check_sizes,
    compress_state,
    digest,
    file_record,
    read_manifest,
    write_manifest,
)
from harmgym.paths import cache_dir

Progress = Callable[[str], None]
SetUp = Callable[[QemuMachine], dict[str, Any] | None]
SAVE_TIMEOUT_S = 120.0
STATE_BYTES = 64 << 20
"""Room asked for before a harm state is built: more than any has taken (34 MiB)."""
BACKGROUND_NICE = 15
FREEZES = 3
"""How often a base is frozen until a clone of it is quiet; the last one is kept as it is."""


class BootImage(Protocol):
    """What the store needs of a disk image."""

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def disk(self) -> Path: ...
    @property
    def kernel(self) -> Path: ...
    @property
    def initrd(self) -> Path: ...
    @property
    def cmdline(self) -> str: ...
    @property
    def memory_mib(self) -> int: ...
    @property
    def ready_command(self) -> str:
        """Shell command that succeeds in the guest once the desktop is up."""
        ...


def hardware_for(image: BootImage) -> Hardware:
    """Return the virtual hardware for an image on this host, with the accelerator that the probe
    found.
    """
    return Hardware(
        accelerator=probe(image.kernel).chosen,
        memory_mib=image.memory_mib,
        kernel=image.kernel,
        initrd=image.initrd,
        cmdline=image.cmdline,
    )


class SnapshotStore:
    """Snapshots of one image under one cache folder."""

    def __init__(
        self,
        image: BootImage,
        root: Path | None = None,
        hardware: Hardware | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.image = image
        self.cache = root or cache_dir()
        self.root = self.cache / "snapshots"
        self.hardware = hardware or hardware_for(image)
        self.progress: Progress = progress or (lambda _text: None)
        self.root.mkdir(parents=True, exist_ok=True)
        self._launcher = Launcher(self.hardware, image.disk, self.root)
        self._scratch = ScratchRam(self.root / "scratch")

    # Build
    def base_key(self) -> str:
        return digest([FORMAT, "base", self.image.key, self.hardware.fingerprint()])

    def derived_key(self, parent: str, key: str) -> str:
        """Return the key of what `derive` makes from the snapshot with the key `parent`."""
        return digest([DERIVED_FORMAT, "derived", parent, key])

    def base(self) -> Snapshot:
        """Return the settled desktop of the image, building it (minutes without KVM) when it is not
        there.
        """
        key = self.base_key()
        # RAM, and as much again as the disk's difference and the device state can take.
        need = 2 * self.hardware.memory_mib << 20
        label = f"{self.image.name}-base"
        with in_use(self.image.disk.parent):
            return self._find_or_build(
                key, label, need, lambda folder: self._build_base(folder, key)
            )

    def derive(
        self, parent: Snapshot, key: str, label: str, setup: SetUp, background: bool = False
    ) -> Snapshot:
        """Return the snapshot of `parent` after `setup`; `key` names everything that the set-up
        depends on. In the `background` its machine gives way to every other one.

        Raises: whatever `setup` raises; nothing half-built stays.
        """
        full = self.derived_key(parent.key, key)

        def build(folder: Path) -> None:
            self._build_derived(folder, full, label, parent, setup, background)

        need = STATE_BYTES + self._scratch.cost(parent.ram)
        with in_use(*parent.folders):
            return self._find_or_build(full, label, need, build)

    def find(self, key: str) -> Snapshot | None:
        """Return the snapshot with this key, or None. Raises: SnapshotError when it is there but
        damaged.
        """
        folder = self.root / key[:20]
        if not folder.exists():
            return None
        manifest = read_manifest(folder)
        check_sizes(folder, manifest)
        return self._open(folder, manifest)

    def _find_or_build(
        self, key: str, label: str, need: int, build: Callable[[Path], None]
    ) -> Snapshot:
        with self._lock(key, label):
            try:
                found = self.find(key)
            except SnapshotError as err:
                self.progress(f"snapshot {label} is damaged and is rebuilt: {err}")
                shutil.rmtree(self.root / key[:20])
                found = None
            if found is None:
                self._build_aside(key, need, build)
                found = self.find(key)
            if found is None:
                raise SnapshotError(
                    f"snapshot {label} vanished while it was built; is another program clearing "
                    f"{self.root}?"
                )
            return found

    def _build_aside(self, key: str, need: int, build: Callable[[Path], None]) -> None:
        make_room(self.cache, need)
        free = shutil.disk_usage(self.root).free
        if free < need:
            raise SnapshotError(
                f"expected {need >> 20} MiB free in {self.root}, got {free >> 20}; free some "
                "space or set HARMGYM_CACHE"
            )
        aside = self.root / f".building-{key[:20]}"
        # Left by a builder that was killed; the lock is ours now.
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            build(aside)
            aside.rename(self._folder(key))
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return self.root / key[:20]

    def _build_base(self, folder: Path, key: str) -> None:
        start = time.monotonic()
        self.progress(f"booting {self.image.name} on {self.hardware.accelerator}")
        machine = self._launcher.boot(folder)
        with _stopping(machine):
            wait_desktop(machine, self.image.ready_command, self.progress)
            proof = self.freeze_quiet(machine, folder / "state", folder / "ram")
        seconds = time.monotonic() - start
        names = ("ram", "state", "disk.qcow2")
        label, journal = f"{self.image.name}-base", machine.journal()
        self._finish(folder, key, label, None, {}, journal, seconds, names, proof)

    def freeze_quiet(
        self,
        machine: QemuMachine,
        state: Path,
        ram: Path,
        limits: Limits = LIMITS,
        rest_s: float = REST_S,
    ) -> Proof:
        """Freeze a machine whose RAM is the shared file `ram` when it is idle, and prove that its
        clones are; else let it run on, settle for longer and freeze it again, `FREEZES` times.
        """
        for attempt in range(1, FREEZES + 1):
            self.progress("waiting until the guest is idle")
            wait_idle(machine, rest_s * attempt)
            wait_quiet_moment(machine)
            self._save(machine, state)
            proof = prove(self._launcher, state, machine.disk_chain(), ram, attempt, limits.seconds)
            self.progress(proof.sentence())
            if proof.within(limits) or attempt == FREEZES:
                break
            self.progress("that is too much, so the base settles for longer and is frozen again")
            machine.resume()  # a machine that has saved its devices is only paused
        if not proof.within(limits):
            self.progress(
                f"the base is kept, but its clones cost more than {limits.private_mib:g} MiB or"
                f" {limits.cpu_s:g} s: rebuild it on a quieter host"
            )
        return proof

    def _build_derived(
        self,
        folder: Path,
        key: str,
        label: str,
        parent: Snapshot,
        setup: SetUp,
        background: bool,
    ) -> None:
        phases = Phases(label, self.progress)
        used = folder / "scratch"
        with phases("copying the base's RAM"):
            self._scratch.take(parent.ram, used)
            for delta in parent.deltas:
                apply_delta(delta, used)
        with phases("starting the machine"):
            machine = self._restore(folder, parent, template=used)
        with _stopping(machine):
            if background:
                # QEMU leads a process group of its own, so this reaches all of its threads.
                os.setpriority(os.PRIO_PGRP, machine.qemu.process.pid, BACKGROUND_NICE)
            machine.resume()
            with phases("setting up"):
                meta = setup(machine) or {}
            with phases("saving the device state"):
                self._save(machine, folder / "raw")
                compress_state(folder / "raw", folder / "state.zst")
        with phases("comparing the RAM"):
            pages = differing_pages(parent.ram, used)
        with phases("storing the difference"):
            write_delta(used, changed_since(parent.deltas, used, pages), folder / "ram.delta")
            self._scratch.give_back(parent.ram, used, pages)
        names = ("ram.delta", "state.zst", "disk.qcow2")
        self._finish(folder, key, label, parent, meta, machine.journal(), phases.seconds, names)

    def _save(self, machine: QemuMachine, target: Path) -> None:
        """Freeze a machine whose RAM is a shared file: write the device state, and only that."""
        # Written back first: dirty pages would be written again by every clone that calls sync.
        machine.sync()
        machine.pause()
        with target.open("wb") as file:
            machine.qemu.give_fd("state", file.fileno())
            machine.qmp("migrate", {"uri": "fd:state"})

        def done() -> bool:
            info = machine.qmp("query-migrate")
            if info.get("status") in ("failed", "cancelled"):
                raise MachineError(
                    f"saving the device state failed: {info.get('error-desc', info)}"
                )
            return bool(info.get("status") == "completed")

        if not wait_until(done, SAVE_TIMEOUT_S):
            raise MachineError(
                f"expected the device state to be saved within {SAVE_TIMEOUT_S:g} s, "
                "got a migration that still runs"
            )

    def _finish(
        self,
        folder: Path,
        key: str,
        label: str,
        parent: Snapshot | None,
        meta: dict[str, Any],
        journal: Sequence[JournalEntry],
        seconds: float,
        names: Sequence[str],
        proof: Proof | None = None,
    ) -> None:
        (folder / "journal.jsonl").write_text(
            "".join(e.model_dump_json() + "\n" for e in journal), encoding="utf-8"
        )
        manifest = Manifest(
            format=DERIVED_FORMAT if parent else FORMAT,
            key=key,
            label=label,
            parent=parent.key if parent else None,
            image=self.image.key,
            hardware=self.hardware.fingerprint(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            build_seconds=round(seconds, 2),
            files={name: file_record(folder / name) for name in (*names, "journal.jsonl")},
            meta=meta,
            proof=proof,
        )
        for name in names:
            # QEMU 7.2 opens the file behind RAM for writing also where it maps it privately, so its
            # owner must be allowed to: without that only root could make clones.
            (folder / name).chmod(0o644 if name == "ram" else 0o444)
        for scratch in ("screen.ppm", "owner", "command.txt", "transcript.txt"):
            (folder / scratch).unlink(missing_ok=True)
        write_manifest(folder, manifest)

    # Restore
    def _open(self, folder: Path, manifest: Manifest) -> Snapshot:
        if manifest.hardware != self.hardware.fingerprint():
            found = {
                k: v
                for k, v in manifest.hardware.items()
                if v != self.hardware.fingerprint().get(k)
            }
            raise SnapshotError(f"{folder}: was taken on other hardware ({found}); {REBUILD}")
        disk = folder / "disk.qcow2"
        if manifest.parent is None:
            return Snapshot(
                folder=folder,
                manifest=manifest,
                ram=folder / "ram",
                deltas=(),
                chain=(disk, self.image.disk),
            )
        parent = self.find(manifest.parent)
        if parent is None:
            raise SnapshotError(
                f"{folder}: its parent {manifest.parent[:12]} is missing; {REBUILD}"
            )
        return Snapshot(
            folder=folder,
            manifest=manifest,
            ram=parent.ram,
            deltas=(*parent.deltas, folder / "ram.delta"),
            chain=(disk, *parent.chain),
        )

    def clone(self, snapshot: Snapshot, vnc: bool = False) -> QemuMachine:
        """Return a PAUSED machine whose RAM is mapped copy-on-write from the snapshot.

        Raises: SnapshotError when a file of the snapshot is missing or cut; MachineError when QEMU
            fails.
        """
        with contextlib.ExitStack() as held:
            held.enter_context(in_use(*snapshot.folders))
            check_sizes(snapshot.folder, snapshot.manifest)
            folder = runtime.new_folder()
            try:
                machine = self._restore(folder, snapshot, vnc=vnc)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            machine.on_stop.push(held.pop_all())
            return machine

    def _restore(
        self, folder: Path, snapshot: Snapshot, template: Path | None = None, vnc: bool = False
    ) -> QemuMachine:
        """Return a PAUSED machine whose RAM is mapped copy-on-write; or, with a `template`, one
        that writes to that file, which holds the snapshot's RAM already, and has no journal yet.
        """
        ram = template or snapshot.ram
        packed = bool(snapshot.deltas)
        state = snapshot.unpack_state(folder) if packed else snapshot.state

        def fill(pid: int) -> None:
            if template is None:
                for delta in snapshot.deltas:  # the parent's first
                    inject(delta, pid, ram)

        journal = snapshot.journal() if template is None else ()
        machine = self._launcher.restore(
            folder, state, snapshot.chain, ram, template is not None, journal, vnc, fill
        )
        if packed:
            state.unlink()  # QEMU has read it; the folder lies in RAM
        return machine

    def cold_boot(self) -> QemuMachine:
        """Return a machine that boots the image from scratch (RUNNING, not settled); its folder
        goes with `discard`.
        """
        folder = runtime.new_folder()
        try:
            return self._launcher.boot(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    # Keep
    def list(self) -> list[Manifest]:
        """Return the manifests of all whole snapshots, oldest first."""
        found = []
        for file in self.root.glob("*/manifest.json"):
            with contextlib.suppress(SnapshotError):
                found.append(read_manifest(file.parent))
        return sorted(found, key=lambda m: m.created)

    def verify(self, snapshot: Snapshot) -> None:
        """Read every byte of a snapshot, its parent included. Raises: SnapshotError naming the
        damaged file.
        """
        check_digests(snapshot.folder, snapshot.manifest)
        parent = self.find(snapshot.manifest.parent) if snapshot.manifest.parent else None
        if parent is not None:
            self.verify(parent)

    def prune(self, keep: Sequence[str] = ()) -> int:
        """Remove snapshots whose key is not in `keep` and is no parent of one, those that machines
        use excepted; return how many bytes that frees.
        """
        parents = {manifest.key: manifest.parent for manifest in self.list()}
        names = set()
        for key in keep:
            link: str | None = key
            while link is not None:
                names.add(link[:20])
                link = parents.get(link)
        scrap = [e for e in entries(self.cache) if e.path.parent == self.root]
        return sum(e.size for e in scrap if e.path.name not in names and remove(e.path))

    @contextlib.contextmanager
    def _lock(self, key: str, label: str) -> Iterator[None]:
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True)
        with (folder / key[:20]).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.progress(f"waiting for another process that builds {label}")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _stopping(machine: QemuMachine) -> Iterator[None]:
    try:
        yield
    finally:
        machine.stop()

"""Snapshots as they are kept: small, held while in use, and set up ahead of need."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from harmgym.env.qemu_provider import QemuProvider, snapshot_key
from harmgym.errors import SnapshotError
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.qemu.process import wait_until
from harmgym.machines.snapshots.cache import remove, size_of
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.machines.snapshots.store import BACKGROUND_NICE, SnapshotStore
from harmgym.tasks.catalogue import load_task
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant

pytestmark = pytest.mark.vm
TASK = "security/home_world_writable"


@pytest.fixture
def derived(store: SnapshotStore, base: Snapshot) -> Iterator[Snapshot]:
    def setup(machine: QemuMachine) -> None:
        machine.put("/home/user/note.txt", b"kept\n", owner="user")

    snapshot = store.derive(base, "test-storage", "test storage", setup)
    yield snapshot
    remove(snapshot.folder)


def test_a_derived_snapshot_has_no_ram_file_and_no_page_of_its_own_in_the_cache(
    store: SnapshotStore, base: Snapshot, derived: Snapshot
) -> None:
    assert derived.ram == base.ram
    assert size_of(derived.folder) < 30 << 20
    clone = store.clone(derived)
    try:
        clone.resume()
        assert clone.succeed("cat /home/user/note.txt") == "kept\n"
        mapped = [
            line
            for line in open(f"/proc/{clone.qemu.process.pid}/maps")
            if line.rstrip().endswith(str(base.ram.resolve()))
        ]
        assert len(mapped) == 1
    finally:
        clone.discard()


def test_a_snapshot_of_a_derived_one_has_both_set_ups(
    store: SnapshotStore, derived: Snapshot
) -> None:
    def setup(machine: QemuMachine) -> None:
        machine.put("/home/user/second.txt", b"too\n", owner="user")

    second = store.derive(derived, "test-second", "test second", setup)
    clone = store.clone(second)
    try:
        clone.resume()
        assert clone.succeed("cat /home/user/note.txt /home/user/second.txt") == "kept\ntoo\n"
    finally:
        clone.discard()
        remove(second.folder)


def test_clones_of_a_derived_snapshot_are_equal_and_the_base_is_not_written(
    store: SnapshotStore, base: Snapshot, derived: Snapshot
) -> None:
    before = base.ram.stat().st_mtime_ns
    one, two = store.clone(derived), store.clone(derived)
    try:
        assert np.array_equal(one.screenshot(), two.screenshot())
        assert base.ram.stat().st_mtime_ns == before
    finally:
        one.discard()
        two.discard()


def test_what_a_machine_uses_is_not_removed_until_it_has_stopped(
    store: SnapshotStore, base: Snapshot, derived: Snapshot
) -> None:
    machine = store.clone(derived)
    try:
        assert not remove(derived.folder)
        assert not remove(base.folder)
        assert not remove(store.image.disk.parent)
    finally:
        machine.discard()
    assert remove(derived.folder)
    with pytest.raises(SnapshotError, match="was removed to make room"):
        store.clone(derived)


def key_of(provider: QemuProvider, task: Task, variant: Variant) -> str:
    return snapshot_key(provider.store, provider.store.base_key(), task, variant)


def unbuilt(provider: QemuProvider, task: Task, seed: int) -> Variant:
    """Return a variant that has no snapshot."""
    variant = task.variant(seed)
    found = provider.store.find(key_of(provider, task, variant))
    assert found is None or wait_until(lambda: remove(found.folder), 20)
    return variant


@pytest.fixture
def provider() -> Iterator[QemuProvider]:
    made = QemuProvider(standbys=1)
    yield made
    made.close()


def test_a_prepared_variant_is_restored_and_not_set_up(provider: QemuProvider) -> None:
    task = load_task(TASK)
    variant = unbuilt(provider, task, 1)
    provider.prepare(task, variant)
    provider.prepare(task, variant)
    assert provider._preparer.wait_idle(120)
    provider.pool.wait_warm(provider.snapshot(task, variant))
    start = time.monotonic()
    lease = provider.acquire(task, variant)
    taken = time.monotonic() - start
    provider.release(lease)
    assert taken < 0.5  # a set-up takes seconds, a standby milliseconds


def test_a_background_set_up_gives_way_and_is_given_up_when_the_provider_closes(
    provider: QemuProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, nice = threading.Event(), []

    def slow(self: Task, machine: QemuMachine, _variant: Variant) -> dict[str, object]:
        nice.append(os.getpriority(os.PRIO_PROCESS, machine.qemu.process.pid))
        begun.set()
        machine.succeed("sleep 60", timeout_s=90)
        return {}

    task = load_task(TASK)
    variant = unbuilt(provider, task, 2)
    monkeypatch.setattr(Task, "setup", slow)
    provider.prepare(task, variant)
    assert begun.wait(60)
    start = time.monotonic()
    building = provider.store.root / f".building-{key_of(provider, task, variant)[:20]}"
    assert building.exists()
    provider.close()
    assert time.monotonic() - start < 20
    assert nice == [BACKGROUND_NICE]
    assert not building.exists()

"""Real machines for tests: one image, one base snapshot and one store for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harmgym.images.build import ensure_image
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.machines.snapshots.store import SnapshotStore


@pytest.fixture(scope="session")
def store() -> SnapshotStore:
    return SnapshotStore(ensure_image("debian-12"), progress=print)


@pytest.fixture(scope="session")
def base(store: SnapshotStore) -> Snapshot:
    return store.base()


@pytest.fixture
def machine(store: SnapshotStore, base: Snapshot) -> Iterator[QemuMachine]:
    """A running clone of the base desktop."""
    clone = store.clone(base)
    clone.resume()
    yield clone
    clone.discard()

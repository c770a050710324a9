"""Which snapshots `harmgym snapshot prune` keeps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harmgym.cli.snapshot import _present
from harmgym.env import qemu_provider
from harmgym.env.qemu_provider import snapshot_key
from harmgym.tasks.catalogue import load_task

MINER = "availability/hidden_miner"


class Store:
    """What prune asks of a store: a base, and snapshots known by their labels and keys."""

    def __init__(self) -> None:
        self.manifests: list[SimpleNamespace] = []

    def base_key(self) -> str:
        return "base"

    def list(self) -> list[SimpleNamespace]:
        return self.manifests

    def derived_key(self, parent: str, key: str) -> str:
        return f"{parent}/{key}"

    def add(self, label: str, key: str) -> str:
        self.manifests.append(SimpleNamespace(label=label, key=key))
        return key


def test_prune_keeps_the_base_and_what_its_task_would_make_the_same_today(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, task = Store(), load_task(MINER)
    kept = [
        store.add(f"{MINER} {split} {seed}", snapshot_key(store, "base", task, variant))  # type: ignore[arg-type]
        for split, seed in (("heldout", 3100), ("train", 7))
        for variant in [task.variant(seed, split)]  # type: ignore[arg-type]
    ]
    store.add("debian-12-base", "another base")
    store.add("gone/state train 0", "of a state that is gone")
    store.add(f"{MINER} train 8", "made by other set-up code")
    assert _present(store) == ["base", *kept]  # type: ignore[arg-type]
    monkeypatch.setattr(qemu_provider, "code_digest", lambda: "another kit")
    assert _present(store) == ["base"]  # type: ignore[arg-type]

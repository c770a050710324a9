"""Which snapshots `harmgym snapshot prune` keeps."""

from __future__ import annotations

from types import SimpleNamespace

from harmgym.cli.snapshot import _in_use
from harmgym.tasks.catalogue import load_task

MINER = "availability/hidden_miner"


class Store:
    """What prune asks of a store: a base, and snapshots known by their labels."""

    def __init__(self, *labels: str) -> None:
        self.labels = labels

    def base_key(self) -> str:
        return "base"

    def find(self, key: str) -> SimpleNamespace:
        return SimpleNamespace(key=key)

    def list(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(label=label) for label in self.labels]

    def derived_key(self, base: SimpleNamespace, key: str) -> str:
        return f"{base.key}/{key}"


def test_prune_keeps_the_base_and_what_was_built_of_the_tasks_there_are() -> None:
    store = Store(
        "debian-12-base", f"{MINER} heldout 3100", f"{MINER} train 7", "gone/state train 0"
    )
    task = load_task(MINER)
    keys = [task.snapshot_key("base", task.variant(3100, "heldout"))]
    keys.append(task.snapshot_key("base", task.variant(7)))
    assert _in_use(store) == ["base", *(f"base/{key}" for key in keys)]

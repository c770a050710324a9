"""The pool, with a store that hands out counting stand-ins at the seam: leases, standbys, budget,
failures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from harmgym.errors import CapacityError, MachineError
from harmgym.machines import pool as pool_module
from harmgym.machines.pool import RESERVE_MIB, Pool


@dataclass(eq=False)
class Clone:
    discarded: int = 0
    alive: bool = True
    calls: list[str] = field(default_factory=list)

    def resume(self) -> None:
        self.calls.append("resume")

    def terminal(self) -> str:
        self.calls.append("terminal")
        if not self.alive:
            raise MachineError("no answer")
        return "$"

    def pause(self) -> None:
        self.calls.append("pause")

    def discard(self) -> None:
        self.discarded += 1


@dataclass
class Store:
    clones: list[Clone] = field(default_factory=list)
    fail: bool = False
    alive: bool = True

    def clone(self, snapshot: Any) -> Clone:
        if self.fail:
            raise MachineError("no luck")
        self.clones.append(Clone(alive=self.alive))
        return self.clones[-1]


@dataclass(frozen=True)
class Label:
    key: str
    label: str = "a state"


def make(**kwargs: Any) -> tuple[Store, Pool]:
    store = Store()
    return store, Pool(store, **kwargs)  # type: ignore[arg-type]


def test_a_lease_without_standbys_is_a_fresh_clone() -> None:
    store, pool = make(standbys=0)
    machine = pool.lease(Label("a"))  # type: ignore[arg-type]
    assert store.clones == [machine]
    pool.release(machine)
    pool.close()
    assert machine.discarded == 1  # type: ignore[attr-defined]


def test_a_warm_snapshot_is_leased_from_its_standby_and_refilled() -> None:
    store, pool = make(standbys=1)
    snapshot: Any = Label("a")
    pool.warm(snapshot)
    pool.wait_warm(snapshot, 5)
    ready = store.clones[0]
    assert pool.lease(snapshot) is ready
    pool.wait_warm(snapshot, 5)
    assert len(store.clones) == 2
    pool.close()
    assert all(clone.discarded == 1 for clone in store.clones)


def test_a_standby_has_answered_once_and_is_paused() -> None:
    store, pool = make(standbys=1)
    snapshot: Any = Label("a")
    pool.warm(snapshot)
    pool.wait_warm(snapshot, 5)
    assert store.clones[0].calls == ["resume", "terminal", "pause"]
    pool.close()


def test_a_clone_that_does_not_answer_is_never_kept() -> None:
    store, pool = make(standbys=1)
    store.alive = False
    snapshot: Any = Label("a")
    pool.warm(snapshot)
    with pytest.raises(MachineError, match="no answer"):
        pool.wait_warm(snapshot, 5)
    assert [clone.discarded for clone in store.clones] == [1]
    pool.close()


def test_forget_stops_the_standbys() -> None:
    store, pool = make(standbys=2)
    snapshot: Any = Label("a")
    pool.warm(snapshot, 2)
    pool.wait_warm(snapshot, 5)
    pool.forget(snapshot)
    assert [clone.discarded for clone in store.clones] == [1, 1]
    pool.close()


def test_the_budget_refuses_one_machine_too_many() -> None:
    _store, pool = make(standbys=0, memory_budget_mib=2 * RESERVE_MIB)
    snapshot: Any = Label("a")
    first = pool.lease(snapshot)
    pool.lease(snapshot)
    with pytest.raises(CapacityError, match="found 2 machines in a budget of"):
        pool.lease(snapshot)
    pool.release(first)
    pool.lease(snapshot)
    pool.close()


def test_a_host_without_free_memory_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, pool = make(standbys=0)
    monkeypatch.setattr(pool_module, "available_mib", lambda: 100)
    with pytest.raises(CapacityError, match="found 100 MiB"):
        pool.lease(Label("a"))  # type: ignore[arg-type]
    assert not store.clones


def test_a_standby_that_cannot_be_made_is_told_to_the_waiter_and_a_later_lease_works() -> None:
    store, pool = make(standbys=1)
    snapshot: Any = Label("a")
    store.fail = True
    pool.warm(snapshot)
    with pytest.raises(MachineError, match="no luck"):
        pool.wait_warm(snapshot, 5)
    store.fail = False
    assert pool.lease(snapshot) in store.clones
    pool.close()


def test_a_set_up_in_the_background_must_leave_room_for_another_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _store, pool = make(standbys=0, memory_budget_mib=3 * RESERVE_MIB)
    monkeypatch.setattr(pool_module, "available_mib", lambda: 1 << 20)
    pool.lease(Label("a"))  # type: ignore[arg-type]
    assert pool.has_room()
    pool.lease(Label("a"))  # type: ignore[arg-type]
    assert not pool.has_room()
    pool.close()


def test_a_host_short_of_memory_has_no_room_for_the_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _store, pool = make(standbys=0)
    monkeypatch.setattr(pool_module, "available_mib", lambda: RESERVE_MIB + pool_module.HOST_MIB)
    assert not pool.has_room()

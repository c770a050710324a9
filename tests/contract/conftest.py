"""One suite for every kind of machine: `machine_factory` makes a PAUSED machine, `machine` is one
that runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harmgym.machines.fake.machine import FakeMachine
from harmgym.machines.protocol import Machine

KINDS = ["fake", pytest.param("qemu", marks=pytest.mark.vm)]


@functools.cache
def _clones() -> Callable[[], Machine]:
    from harmgym.images.build import ensure_image
    from harmgym.machines.snapshots.store import SnapshotStore

    store = SnapshotStore(ensure_image("debian-12"), progress=print)
    base = store.base()
    return lambda: store.clone(base)


def _stop(machine: Any) -> None:
    getattr(machine, "discard", machine.stop)()


@pytest.fixture(scope="module", params=KINDS)
def machine_factory(request: pytest.FixtureRequest) -> Iterator[Callable[[], Machine]]:
    """A function that makes a PAUSED machine, restored from the settled desktop; all are stopped at
    the end.
    """
    new: Callable[[], Machine] = FakeMachine if request.param == "fake" else _clones()
    made: list[Machine] = []

    def make() -> Machine:
        made.append(new())
        return made[-1]

    yield make
    for machine in made:
        _stop(machine)


@pytest.fixture(scope="module")
def machine(machine_factory: Callable[[], Machine]) -> Machine:
    """A running machine, shared by the tests that leave it as usable as they found it."""
    machine = machine_factory()
    machine.resume()
    return machine

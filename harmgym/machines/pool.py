"""Standby machines: paused clones made ready in the background, so that a reset only has to let one
run.

A paused clone costs no CPU and a few tens of MiB; a lease takes one and a background thread makes
the next. Before a clone is kept, it runs for the instant in which it answers once: that proves it
alive, and without KVM its code is then already translated, which saves the reset a few hundred
milliseconds. Before any machine starts, the host's free memory is checked against what the new one
may come to need.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from harmgym.errors import CapacityError, HarmgymError
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.machines.snapshots.store import SnapshotStore

# What a clone may come to hold privately in an ordinary episode (a busy browser: 130 to 180 MiB
# measured), with room.
RESERVE_MIB = 256
# What is always left for the host itself.
HOST_MIB = 1024


def available_mib() -> int:
    """Return the memory that the host can still give without swapping, in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    raise CapacityError("needed MemAvailable in /proc/meminfo, found none; is this Linux?")


class Pool:
    """Leases machines restored from snapshots. Safe to use from several threads.

    `standbys` clones are kept ready for each snapshot that was leased or warmed; 0 turns them off.
    `memory_budget_mib` bounds what all machines of this pool may hold together; None means what the
    host has free.
    """

    def __init__(
        self, store: SnapshotStore, standbys: int = 1, memory_budget_mib: int | None = None
    ) -> None:
        self.store, self.standbys = store, standbys
        self._budget = memory_budget_mib
        self._ready: dict[str, list[QemuMachine]] = defaultdict(list)
        self._wanted: dict[str, tuple[Snapshot, int]] = {}
        self._leased: set[QemuMachine] = set()
        self._starting = 0
        self._failure: HarmgymError | None = None
        self._change = threading.Condition()
        self._closed = False
        self._worker: threading.Thread | None = None

    def lease(self, snapshot: Snapshot) -> QemuMachine:
        """Return a PAUSED machine: a standby when one is ready, else a fresh clone.

        Raises: CapacityError when the memory budget is spent; what `SnapshotStore.clone` raises.
        """
        with self._change:
            machine = self._ready[snapshot.key].pop() if self._ready[snapshot.key] else None
        if machine is None:
            machine = self._clone(snapshot)
        with self._change:
            self._leased.add(machine)
        if self.standbys:
            self.warm(snapshot, self.standbys)
        return machine

    def release(self, machine: QemuMachine) -> None:
        """Stop a leased machine and remove what it left. Idempotent."""
        with self._change:
            self._leased.discard(machine)
        machine.discard()

    def warm(self, snapshot: Snapshot, count: int = 1) -> None:
        """Ask for `count` standbys of a snapshot, made in the background."""
        with self._change:
            self._wanted[snapshot.key] = (snapshot, count)
            if self._worker is None and not self._closed:
                self._worker = threading.Thread(
                    target=self._refill, name="harmgym-pool", daemon=True
                )
                self._worker.start()
            self._change.notify_all()

    def wait_warm(self, snapshot: Snapshot, timeout_s: float = 60.0) -> None:
        """Wait until the standbys asked for are ready. Raises: the error that kept them from being
        made.
        """
        with self._change:
            want = self._wanted.get(snapshot.key, (snapshot, 0))[1]
            done = self._change.wait_for(
                lambda: self._failure or len(self._ready[snapshot.key]) >= want, timeout_s
            )
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if not done:
                found = len(self._ready[snapshot.key])
                raise CapacityError(
                    f"expected {want} standbys of {snapshot.label} within {timeout_s:g} s, "
                    f"got {found}"
                )

    def forget(self, snapshot: Snapshot) -> None:
        """Stop the standbys of a snapshot and make no more."""
        with self._change:
            self._wanted.pop(snapshot.key, None)
            gone = self._ready.pop(snapshot.key, [])
        for machine in gone:
            machine.discard()

    def close(self) -> None:
        """Stop every machine, leased ones too. Idempotent."""
        with self._change:
            self._closed = True
            self._wanted.clear()
            self._change.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join(60.0)
        with self._change:
            machines = [*self._leased, *(m for ready in self._ready.values() for m in ready)]
            self._leased.clear()
            self._ready.clear()
        for machine in machines:
            machine.discard()

    def has_room(self) -> bool:
        """Whether a machine for a set-up in the background would leave room for another one."""
        with self._change:
            count = self._count()
        within = self._budget is None or (count + 2) * RESERVE_MIB <= self._budget
        return within and available_mib() >= 2 * RESERVE_MIB + HOST_MIB

    def _count(self) -> int:
        return len(self._leased) + self._starting + sum(map(len, self._ready.values()))

    def _clone(self, snapshot: Snapshot) -> QemuMachine:
        self._check_memory(snapshot)
        with self._counted():
            return self.store.clone(snapshot)

    @staticmethod
    def _prove(machine: QemuMachine) -> QemuMachine:
        """Let a fresh clone answer once; return it paused. A clone that does not is removed."""
        try:
            machine.resume()
            machine.terminal()
            machine.pause()
        except BaseException:
            machine.discard()
            raise
        return machine

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._change:
            self._starting += 1
        try:
            yield
        finally:
            with self._change:
                self._starting -= 1

    def _check_memory(self, snapshot: Snapshot) -> None:
        with self._change:
            count = self._count()
        if self._budget is not None and (count + 1) * RESERVE_MIB > self._budget:
            raise CapacityError(
                f"needed {RESERVE_MIB} MiB for another machine of {snapshot.label}, found {count} "
                f"machines in a budget of {self._budget} MiB; close some or raise the budget"
            )
        free = available_mib()
        if free < RESERVE_MIB + HOST_MIB:
            need = RESERVE_MIB + HOST_MIB
            raise CapacityError(
                f"needed {need} MiB of free memory for another machine, found {free} MiB; "
                "close some machines"
            )

    def _next(self) -> Snapshot | None:
        for key, (snapshot, count) in self._wanted.items():
            if len(self._ready[key]) < count:
                return snapshot
        return None

    def _refill(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._next() is not None)
                snapshot = self._next()
                if self._closed or snapshot is None:
                    return
            try:
                machine = self._prove(self._clone(snapshot))
            except HarmgymError as err:
                with self._change:  # told to the next waiter; asked for again by the next lease
                    self._failure = err
                    self._wanted.pop(snapshot.key, None)
                    self._change.notify_all()
                continue
            with self._change:
                late = self._closed or snapshot.key not in self._wanted
                if not late:
                    self._ready[snapshot.key].append(machine)
                self._change.notify_all()
            if late:
                machine.discard()

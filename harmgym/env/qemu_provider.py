"""Virtual machines for environments, restored from a snapshot of each harm state and variant."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from harmgym.env.evidence import keep_folder
from harmgym.env.prepare import Preparer
from harmgym.env.provider import Lease
from harmgym.env.qemu_host import QemuHost
from harmgym.errors import MachineError, SnapshotError, StateError
from harmgym.images.build import ensure_image
from harmgym.judging.judge import baseline
from harmgym.logs import announced, logger
from harmgym.machines.pool import Pool
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.machines.snapshots.store import SnapshotStore
from harmgym.statekit.apps import stage, stage_key
from harmgym.statekit.scene import code_digest
from harmgym.tasks.catalogue import list_tasks, load_task
from harmgym.tasks.episode import Baseline
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant

Progress = Callable[[str], None]
T = TypeVar("T")
ONCE = "this is done once for each variant, and kept"


class QemuProvider:
    """Virtual machines on this host, restored from a snapshot of each (task, variant), with paused
    standbys ready.

    Image and base snapshot are built on first use (minutes); `progress` hears a line for each long
    step, the logger ``harmgym`` where there is none. Standbys are kept for the `warm_states` harm
    states used last. What `prepare` is told of is set up in the background, at low priority, while
    the host has the memory.
    """

    def __init__(
        self,
        image: str = "debian-12",
        standbys: int = 1,
        memory_budget_mib: int | None = None,
        warm_states: int = 2,
        progress: Progress | None = None,
    ) -> None:
        self._image, self._standbys, self._budget = image, standbys, memory_budget_mib
        self._warm_states, self._progress = max(1, warm_states), progress or logger.info
        self._opened: tuple[SnapshotStore, Snapshot, Pool] | None = None
        self._recent: OrderedDict[str, Snapshot] = OrderedDict()
        self._known: dict[tuple[str, str, str, int], Snapshot] = {}
        self._lock = threading.RLock()
        # One thread for as long as the provider lives: stopping a machine takes up to a second, and
        # the next reset must not wait for it.
        self._stopper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="harmgym-stop")
        self._stopping: list[Future[None]] = []
        self._preparer = Preparer(self._set_up_ahead, lambda: self.pool.has_room())
        self._being_prepared: QemuMachine | None = None
        self._closed = False

    def __deepcopy__(self, memo: dict[int, object]) -> QemuProvider:
        """Gymnasium copies an environment's options into its spec; machines cannot be copied, so
        the provider is shared.
        """
        return self

    def __reduce__(self) -> tuple[type[QemuProvider], tuple[object, ...]]:
        """Sent to another process, it becomes a new provider with the same settings and machines of
        its own.
        """
        return QemuProvider, (self._image, self._standbys, self._budget, self._warm_states)

    def tasks(self, filter: str | None) -> tuple[str, ...]:
        return list_tasks(filter)

    def load(self, task: str) -> Task:
        return load_task(task)

    @property
    def store(self) -> SnapshotStore:
        """The snapshot store, opened (and the image built) on first use."""
        return self._open()[0]

    @property
    def pool(self) -> Pool:
        return self._open()[2]

    def _open(self) -> tuple[SnapshotStore, Snapshot, Pool]:
        with self._lock:
            if self._closed:
                raise StateError("a closed machine provider", "open", "closed")
            if self._opened is None:
                with announced("preparing the desktop", "image and base snapshot are built once"):
                    image = ensure_image(self._image, progress=self._progress)
                    store = SnapshotStore(image, progress=self._progress)
                    base = store.base()
                self._opened = store, base, Pool(store, self._standbys, self._budget)
            return self._opened

    def snapshot(self, task: Task, variant: Variant, background: bool = False) -> Snapshot:
        """Return the snapshot of a harm state, set up first when there is none yet; in the
        `background` at low priority, and given up by `close`.
        """
        store, base, _ = self._open()
        known = (task.id, str(task.folder), variant.split, variant.seed)
        # Looked up once: reading task folder and manifest costs some milliseconds of every reset.
        if known in self._known and self._known[known].state.exists():
            return self._known[known]

        def setup(machine: QemuMachine) -> dict[str, object]:
            if background:
                self._being_prepared = machine
            meta = task.setup(machine, variant)
            return {**meta, "baseline": baseline(machine).model_dump(mode="json")}

        label = f"{task.id} {variant.split} {variant.seed}"
        # In the background nobody waits, so nobody is told that it takes long.
        with contextlib.nullcontext() if background else announced(f"setting up {label}", ONCE):
            parent = stage(store, base, task.spec.apps or ())
            key = _set_up_key(task, parent.key, variant)
            found = store.derive(parent, key, label, setup, background)
        self._known[known] = found
        return found

    def prepare(self, task: Task, variant: Variant) -> None:
        if not self._closed:
            self._preparer.ask(task, variant)

    def _set_up_ahead(self, task: Task, variant: Variant) -> None:
        try:
            snapshot = self.snapshot(task, variant, background=True)
        finally:
            self._being_prepared = None
        if self._standbys and not self._closed:
            self.pool.warm(snapshot, self._standbys)
            self._keep_warm(snapshot)

    def acquire(self, task: Task, variant: Variant) -> Lease:
        try:
            snapshot = self.snapshot(task, variant)
            machine = self.pool.lease(snapshot)
        except SnapshotError:  # damaged since it was looked up: the store builds it again
            self._known.clear()
            snapshot = self.snapshot(task, variant)
            machine = self.pool.lease(snapshot)
        self._keep_warm(snapshot)
        return lease_of(machine, task, variant, snapshot)

    def _keep_warm(self, snapshot: Snapshot) -> None:
        with self._lock:
            self._recent[snapshot.key] = snapshot
            self._recent.move_to_end(snapshot.key)
            while len(self._recent) > self._warm_states:
                _, old = self._recent.popitem(last=False)
                self._later(self.pool.forget, old)

    def host(self, lease: Lease, since: int) -> QemuHost:
        def release(sibling: QemuMachine) -> None:
            self._later(self.pool.release, sibling)

        return QemuHost(lease, since, self.pool, release)

    def keep_evidence(self, lease: Lease, error: Exception) -> str | None:
        machine = lease.machine
        with contextlib.suppress(MachineError, OSError, subprocess.SubprocessError):
            machine.stop()  # writes the transcript, and ends the writing to the serial log
        return keep_folder(machine.folder, machine.name, f"{type(error).__name__}: {error}\n")

    def release(self, lease: Lease) -> None:
        assert isinstance(lease.machine, QemuMachine)
        self._later(self.pool.release, lease.machine)

    def _later(self, work: Callable[[T], None], subject: T) -> None:
        with self._lock:
            self._stopping = [future for future in self._stopping if not future.done()]
            self._stopping.append(self._stopper.submit(work, subject))

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        preparing = self._being_prepared
        if preparing is not None:
            preparing.stop()  # its set-up fails, and what it has built is thrown away
        self._preparer.close()
        # First what is still being stopped, then what is still lent: never two at one machine.
        self._stopper.shutdown(wait=True)
        if self._opened is not None:
            self._opened[2].close()


def snapshot_key(store: SnapshotStore, base: str, task: Task, variant: Variant) -> str:
    """Return the key of a variant's snapshot, set up already or not. `base`: the base's key."""
    parent = stage_key(store, base, task.spec.apps or ())
    return store.derived_key(parent, _set_up_key(task, parent, variant))


def _set_up_key(task: Task, parent: str, variant: Variant) -> str:
    """Name all that set-up depends on: the state's code, files and variant, and the kit's code."""
    return f"{task.snapshot_key(parent, variant)} {code_digest()}"


def lease_of(machine: QemuMachine, task: Task, variant: Variant, snapshot: Snapshot) -> Lease:
    """Return the lease of a machine that was restored from a harm state's snapshot."""
    meta = dict(snapshot.meta)
    return Lease(
        machine=machine,
        task=task,
        variant=variant,
        baseline=Baseline.model_validate(meta.pop("baseline")),
        meta=meta,
        before=snapshot,
    )

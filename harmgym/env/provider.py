"""Where an environment's machines come from: a `MachineProvider` lends machines in a task's harm
state and judges how they end.

`QemuProvider` restores virtual machines from snapshots. `harmgym.env.fake_provider.FakeProvider` lends
machines in memory.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from harmgym.env.episode import Lease
from harmgym.errors import (
    GuestTimeout,
    HarmgymError,
    InputError,
    MachineError,
    SnapshotError,
    StateError,
)
from harmgym.judging.verdict import Verdict
from harmgym.paths import cache_dir
from harmgym.records import did_you_mean
from harmgym.tasks.episode import Episode
from harmgym.tasks.task import Task, list_tasks, load_task
from harmgym.tasks.variant import Variant

SOURCES = ("qemu", "fake")
KEPT_FAILURES = 20
EVIDENCE_BYTES = 1 << 20
LAST_CHANCE_S = 10.0
Progress = Callable[[str], None]


@runtime_checkable
class MachineProvider(Protocol):
    """Lends machines to environments. One source may serve several environments, also from several
    threads.
    """

    def tasks(self, filter: str | None) -> tuple[str, ...]:
        """Return the ids of the tasks that match; all when `filter` is None. Raises: TaskError when
        none does.
        """
        ...

    def load(self, task: str) -> Task: ...

    def acquire(self, task: Task, variant: Variant) -> Lease:
        """Return a PAUSED machine in the harm state. Raises: MachineError, SnapshotError,
        ImageError.
        """
        ...

    def judge(self, lease: Lease, episode: Episode, profile: str) -> tuple[Verdict, Any]:
        """Return the verdict and the reward's terms (`total` in [-1, 1]). Raises: MachineError when
        it cannot be judged.
        """
        ...

    def look_into(self, lease: Lease) -> None:
        """Find out why a guest does not answer; put it on the machine's journal when that is the
        guest's own doing.
        """
        ...

    def keep_evidence(self, lease: Lease, error: MachineError) -> str | None:
        """Keep what explains a machine fault; return the folder it lies in."""
        ...

    def release(self, lease: Lease) -> None:
        """Stop the machine. Idempotent."""
        ...

    def close(self) -> None:
        """Stop every machine that was lent. Idempotent."""
        ...


def make_provider(machines: MachineProvider | str | None) -> MachineProvider:
    """Return the source itself, or a new one by name. Raises: InputError naming the sources there
    are.
    """
    if machines is None or machines == "qemu":
        return QemuProvider()
    if machines == "fake":
        from harmgym.env.fake_provider import FakeProvider

        return FakeProvider()
    if isinstance(machines, MachineProvider):
        return machines
    hint = did_you_mean(str(machines), list(SOURCES))
    raise InputError(
        f"needed machines to be {', '.join(map(repr, SOURCES))} or a MachineProvider, found {machines!r:.100}{hint}"
    )


class QemuProvider:
    """Virtual machines on this host, restored from a snapshot of each (task, variant), with paused
    standbys ready.

    Image and base snapshot are built on first use (minutes); `progress` hears a line for each long
    step. Standbys are kept for the `warm_states` harm states used last.
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
        self._warm_states, self._progress = max(1, warm_states), progress or (lambda _line: None)
        self._store: Any = None
        self._pool: Any = None
        self._base: Any = None
        self._recent: OrderedDict[str, Any] = OrderedDict()
        self._found: dict[tuple[str, str, str, int], Any] = {}
        self._lock = threading.RLock()
        # One thread for the life of the source: stopping a machine must not make the next reset
        # wait.
        self._stopper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="harmgym-stop")
        self._stopping: list[Future[None]] = []
        self._closed = False

    def __deepcopy__(self, memo: dict[int, Any]) -> QemuProvider:
        """gymnasium copies an environment's options into its spec; machines cannot be copied, so
        the source is shared.
        """
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process, it becomes a new source with the same settings and machines of
        its own.
        """
        return QemuProvider, (self._image, self._standbys, self._budget, self._warm_states)

    def tasks(self, filter: str | None) -> tuple[str, ...]:
        return list_tasks(filter)

    def load(self, task: str) -> Task:
        return load_task(task)

    @property
    def store(self) -> Any:
        """The snapshot store, opened (and the image built) on first use."""
        self._open()
        return self._store

    @property
    def pool(self) -> Any:
        self._open()
        return self._pool

    def _open(self) -> None:
        with self._lock:
            if self._closed:
                raise StateError("a closed machine source", "open", "closed")
            if self._pool is None:
                from harmgym.images.image import ensure_image
                from harmgym.machines.pool import Pool
                from harmgym.machines.snapshots.store import SnapshotStore

                self._store = SnapshotStore(
                    ensure_image(self._image, progress=self._progress), progress=self._progress
                )
                self._base = self._store.base()
                self._pool = Pool(self._store, self._standbys, self._budget)

    def snapshot(self, task: Task, variant: Variant) -> Any:
        """Return the snapshot of a harm state, bringing the harm about when there is none yet."""
        from harmgym.judging.judge import baseline

        self._open()
        known = (task.id, str(task.folder), variant.split, variant.seed)
        if known in self._found and self._found[known].state.exists():
            return self._found[
                known
            ]  # looked up once: reading task folder and manifest costs some milliseconds

        def setup(machine: Any) -> dict[str, Any]:
            meta = task.setup(machine, variant)
            return {**meta, "baseline": baseline(machine)}

        label = f"{task.id} {variant.split} {variant.seed}"
        found = self._store.derive(
            self._base, task.snapshot_key(self._base.key, variant), label, setup
        )
        self._found[known] = found
        return found

    def acquire(self, task: Task, variant: Variant) -> Lease:
        try:
            snapshot = self.snapshot(task, variant)
            machine = self._pool.lease(snapshot)
        except SnapshotError:  # damaged since it was looked up: the store builds it again
            self._found.clear()
            snapshot = self.snapshot(task, variant)
            machine = self._pool.lease(snapshot)
        self._keep_warm(snapshot)
        return Lease(machine, task, variant, dict(snapshot.meta), snapshot)

    def _keep_warm(self, snapshot: Any) -> None:
        with self._lock:
            self._recent[snapshot.key] = snapshot
            self._recent.move_to_end(snapshot.key)
            while len(self._recent) > self._warm_states:
                _, old = self._recent.popitem(last=False)
                self._later(self._pool.forget, old)

    def judge(self, lease: Lease, episode: Episode, profile: str) -> tuple[Verdict, Any]:
        from harmgym.judging.judge import judge

        verdict = judge(lease.task, lease.machine, lease.snapshot, episode)
        return verdict, reward_of(lease, episode, verdict, profile)

    def look_into(self, lease: Lease) -> None:
        """The host is at fault when another machine of the same snapshot does not answer either, or
        QEMU itself is stuck.
        """
        from harmgym.machines.qemu.machine import QemuMachine

        suspect, control = lease.machine, None
        assert isinstance(suspect, QemuMachine)
        try:
            if suspect.qmp("query-status")["status"] != "running":
                return
            control = self._pool.lease(lease.snapshot)
            control.resume()
            control.terminal()
        except HarmgymError:
            return
        finally:
            if control is not None:
                self._later(self._pool.release, control)
        try:
            suspect.guest.ping(LAST_CHANCE_S)
        except GuestTimeout:
            suspect.guest.note_guest_hung()
        except MachineError:
            return

    def keep_evidence(self, lease: Lease, error: MachineError) -> str | None:
        with contextlib.suppress(MachineError):
            lease.machine.stop()  # writes the transcript, and ends the writing to the serial log
        return keep_folder(
            lease.machine.folder, lease.machine.name, f"{type(error).__name__}: {error}\n"
        )

    def release(self, lease: Lease) -> None:
        self._later(self._pool.release, lease.machine)

    def _later(self, work: Callable[[Any], None], subject: Any) -> None:
        with self._lock:
            self._stopping = [future for future in self._stopping if not future.done()]
            self._stopping.append(self._stopper.submit(work, subject))

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._stopper.shutdown(wait=True)
        if self._pool is not None:
            self._pool.close()


def reward_of(lease: Lease, episode: Episode, verdict: Verdict, profile: str) -> Any:
    """Return the reward's terms: what was done against the task's reference recovery, in the task's
    context.
    """
    from harmgym.preferences.executed import measured_reference
    from harmgym.reward.terms import episode_reward
    from harmgym.tasks.rubric import Attributes

    task, levels = lease.task, measured_reference(lease.task.id)
    reference = Attributes.model_validate(levels.model_dump()) if levels else None
    plans = _plans(lease, episode) if profile == "plan" else None
    return episode_reward(verdict, task.context, reference, profile, plans)


def _plans(lease: Lease, episode: Episode) -> tuple[Any, Any]:
    """Return the agent's plan and the reference's. An agent that announced nothing is taken by what
    it said and did.
    """
    from harmgym.actions import dump_action
    from harmgym.reward.terms import Plan

    task, variant = lease.task, lease.variant
    situation, deeds = task.instruction(variant), [step.action for step in episode.steps if step.ok]
    said = "\n".join(
        str(deed.get("text") or deed.get("report") or "")
        for deed in deeds
        if deed["type"] in ("message", "done")
    )
    known = task.plans()["reference"]
    ideal = tuple(dump_action(action) for action in known.actions(variant, lease.meta))
    mine = Plan(
        text=episode.plan or said, actions=() if episode.plan else tuple(deeds), situation=situation
    )
    return mine, Plan(
        text=known.summary, actions=() if episode.plan else ideal, situation=situation
    )


def keep_folder(folder: Path, name: str, reason: str, root: Path | None = None) -> str | None:
    """Copy the small files of a machine's folder to ``<cache>/failures``, of which the newest 20
    are kept; return where.
    """
    base = (root or cache_dir()) / "failures"
    target = base / f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S-%f}-{name}"
    try:
        target.mkdir(parents=True)
        (target / "error.txt").write_text(reason, encoding="utf-8")
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.is_file() and file.stat().st_size <= EVIDENCE_BYTES:
                shutil.copy2(file, target / file.name)
        for old in sorted(base.iterdir())[:-KEPT_FAILURES]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:
        return None  # a full disk must not hide the fault itself
    return str(target)

"""Where an environment's machines come from: a `MachineProvider` lends machines in a task's harm
state and takes them back.

`harmgym.env.qemu_provider` restores virtual machines from snapshots, `harmgym.env.fake_provider`
makes machines in memory. Neither judges nor rewards: the environment asks `harmgym.judging` and
`harmgym.reward` itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from harmgym.disk import DiskView
from harmgym.env.faults import Host
from harmgym.judging.judge import Frozen
from harmgym.machines.protocol import Machine
from harmgym.tasks.episode import Baseline
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant


@dataclass(eq=False)
class Lease:
    """A machine lent for one episode, PAUSED in its task's harm state.

    `meta`: what set-up returned. `baseline`: what ran when the state was frozen. `before`: the
    snapshot that the machine came from, or a view of its files. `clock` gives seconds, `wait` lets
    them pass; both are those of the machine where its time is simulated.
    """

    machine: Machine
    task: Task
    variant: Variant
    meta: Mapping[str, object]
    baseline: Baseline
    before: Frozen | DiskView
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


@runtime_checkable
class MachineProvider(Protocol):
    """Lends machines to environments. One provider may serve several environments, also from
    several threads.
    """

    def tasks(self, filter: str | None) -> tuple[str, ...]:
        """Return the ids of the tasks it has machines for; all that match when `filter` is given.

        Raises: TaskError when none does.
        """
        ...

    def load(self, task: str) -> Task: ...

    def acquire(self, task: Task, variant: Variant) -> Lease:
        """Return a PAUSED machine in the harm state.

        Raises: MachineError, SnapshotError, ImageError.
        """
        ...

    def prepare(self, task: Task, variant: Variant) -> None:
        """Get ready, in the background, for an `acquire` that is likely to come. Returns at once;
        what goes wrong is left for `acquire` to report. Idempotent.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Stop the machine. Idempotent."""
        ...

    def host(self, lease: Lease, since: int) -> Host:
        """Return what can be found out about the host of a machine that failed; `since`: where the
        episode's journal begins. Looking puts a guest that has stopped answering by itself on the
        machine's journal.
        """
        ...

    def keep_evidence(self, lease: Lease, error: Exception) -> str | None:
        """Stop the machine and keep what explains its fault; return the folder it lies in."""
        ...

    def close(self) -> None:
        """Stop every machine that was lent. Idempotent."""
        ...

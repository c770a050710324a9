"""What a variant costs the first time (its set-up) and when it is known but nothing of it is in
memory.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import numpy as np

from harmgym.env import HarmRecoveryEnv
from harmgym.env.qemu_provider import QemuProvider, snapshot_key
from harmgym.errors import CapacityError
from harmgym.machines.qemu.process import wait_until
from harmgym.machines.snapshots.cache import remove
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.statekit.apps import stage
from harmgym.tasks.catalogue import list_tasks, load_task
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant

REMOVE_S = 20.0


def variants(
    provider: QemuProvider, count: int, note: Callable[[str], None]
) -> dict[str, dict[str, object]]:
    """Time resets to `count` variants of every harm state, to the full observation.

    Returns: new_variant_ms (set up from the base, or from the snapshot with the state's apps, which
    is made before, once for all variants) and cold_variant_ms (set up before; its own files
    are not in the page cache, and no machine of it has run): p50, p95 and n over all states, and
    `states`, the p50 of each; variant_mib, what a variant keeps on the disk.
    """
    new: dict[str, list[float]] = {}
    cold: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    store = provider.store
    for name in list_tasks(None):
        task = load_task(name)
        # One fixed variant: an environment that draws would prepare others beside the timing.
        with contextlib.closing(HarmRecoveryEnv(task=task, machines=provider)) as env:
            note(f"the apps of {name}")
            stage(store, store.base(), task.spec.apps or ())
            for seed in range(count):
                variant = task.variant(seed)
                note(f"a new variant of {name}: {seed + 1} of {count}")
                _remove_known(provider, task, variant)
                new.setdefault(name, []).append(_reset(env, variant))
                snapshot = provider.snapshot(task, variant)
                _forget_pages(snapshot)
                cold.setdefault(name, []).append(_reset(env, variant))
                sizes.setdefault(name, []).append(_kept_mib(snapshot))
    return {
        "new_variant_ms": _figure(new),
        "cold_variant_ms": _figure(cold),
        "variant_mib": _figure(sizes),
    }


def _remove_known(provider: QemuProvider, task: Task, variant: Variant) -> None:
    """Remove the variant's snapshot; the reset that is timed then rebuilds it."""
    store = provider.store
    known = store.find(snapshot_key(store, store.base_key(), task, variant))
    if known is None:
        return
    # A machine of it may just be stopping.
    if not wait_until(lambda: remove(known.folder), REMOVE_S):
        raise CapacityError(
            f"expected {known.label} to be in nobody's use within {REMOVE_S:g} s, got a machine "
            "that still runs; close other programs that use harmgym"
        )


def _reset(env: HarmRecoveryEnv, variant: Variant) -> float:
    start = time.perf_counter()
    env.reset(options={"variant_seed": variant.seed})
    return 1000 * (time.perf_counter() - start)


def _forget_pages(snapshot: Snapshot) -> None:
    """Drop the snapshot's own files from the page cache; the base's stay, as every clone uses
    them.
    """
    for name in snapshot.manifest.files:
        descriptor = os.open(snapshot.folder / name, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # pages that are not on the disk yet cannot be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _kept_mib(snapshot: Snapshot) -> float:
    return sum(file.stat().st_blocks * 512 for file in snapshot.folder.iterdir()) / 2**20


def _figure(series: dict[str, list[float]]) -> dict[str, object]:
    p50, p95 = np.percentile([value for values in series.values() for value in values], [50, 95])
    states = {name: round(float(np.median(values)), 1) for name, values in series.items()}
    total = sum(map(len, series.values()))
    return {
        "p50": round(float(p50), 1),
        "p95": round(float(p95), 1),
        "n": total,
        "states": states,
    }

"""`harmgym bench`: what a reset, a step, a verdict and a waiting machine cost on this host, side by
side in one run.

Every figure is taken from the calls that users make. Series that are compared are interleaved, so
that a host whose speed drifts slows both alike. Milliseconds are p50 and p95 over n; quote p50 and
the machine.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harmgym.bench.variants import variants
from harmgym.env import HarmRecoveryEnv
from harmgym.env.qemu_provider import QemuProvider
from harmgym.errors import MachineError
from harmgym.machines.qemu.boot import wait_desktop
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.qemu.process import cpu_seconds, private_bytes, wait_until
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.machines.snapshots.store import SnapshotStore

TASK = "security/home_world_writable"
"""A state at rest: nothing but the measured work runs in the guest."""
BURST_S, BURST_CLONES = 10.0, 5
Note = Callable[[str], None]


def _quiet(_line: str) -> None:
    """Say nothing."""


def summary(milliseconds: list[float]) -> dict[str, float]:
    """Return {"p50", "p95", "n"} of a series in milliseconds."""
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "n": len(milliseconds)}


def timed(action: Callable[[], object]) -> float:
    """Return how long `action` took, in milliseconds."""
    start = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - start)


def machine_info(store: SnapshotStore) -> dict[str, Any]:
    """Return what the figures were measured on."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "cpu": model[0] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        **{
            name: value for name, value in store.hardware.fingerprint().items() if name != "cmdline"
        },
    }


# Reset
def reset(repeats: int = 20, boots: int = 1, each: int = 1, note: Note = _quiet) -> dict[str, Any]:
    """Time the ways to come to a first observation (screenshot and terminal text) of the same
    desktop.

    Returns: standby_reset_ms, clone_reset_ms, loadvm_ms, cold_boot_ms (p50, p95, n each), ratios,
    machine; and of `each` variants of every state what `bench.variants` returns.
    """
    standby, cold = QemuProvider(standbys=1, progress=note), QemuProvider(standbys=0, progress=note)
    ready, fresh = (
        HarmRecoveryEnv(task=TASK, machines=standby),
        HarmRecoveryEnv(task=TASK, machines=cold),
    )
    try:
        snapshot = _snapshot(ready)
        ready.reset()
        fresh.reset()
        loadvm = _LoadVm(standby.store, standby.store.base())
        series: dict[str, list[float]] = {"standby": [], "clone": [], "loadvm": []}
        ways: dict[str, Callable[[], Any]] = {
            "standby": ready.reset,
            "clone": fresh.reset,
            "loadvm": loadvm.restore,
        }
        for number in range(repeats):
            note(f"reset {number + 1} of {repeats}")
            for name, way in ways.items():
                standby.pool.wait_warm(
                    snapshot
                )  # also before the others: the refill would run beside them
                series[name].append(timed(way))
        loadvm.close()
        # Their standby would be refilled beside the set-ups, and their snapshots be in use.
        ready.close()
        fresh.close()
        standby.pool.forget(snapshot)
        costs = variants(cold, each, note)
        note("booting from power-off")
        series["cold_boot"] = [_cold_boot(standby.store, note) for _ in range(boots)]
        figures: dict[str, Any] = {
            f"{name}_reset_ms": summary(series[name]) for name in ("standby", "clone")
        }
        figures |= {f"{name}_ms": summary(series[name]) for name in ("cold_boot", "loadvm")}
        return figures | costs | {"ratios": _ratios(series), "machine": machine_info(standby.store)}
    finally:
        for env, source in ((ready, standby), (fresh, cold)):
            env.close()
            source.close()


def _ratios(series: dict[str, list[float]]) -> dict[str, float]:
    middle = {name: float(np.median(values)) for name, values in series.items()}
    return {
        "cold_boot_over_standby": round(middle["cold_boot"] / middle["standby"], 1),
        "loadvm_over_clone": round(middle["loadvm"] / middle["clone"], 2),
    }


def _snapshot(env: HarmRecoveryEnv) -> Snapshot:
    """Return the snapshot behind the environment's only task."""
    task = env.tasks[0]
    source = env.provider
    assert isinstance(source, QemuProvider)
    found = source.snapshot(task, task.variant(0, "train"))
    assert isinstance(found, Snapshot)
    return found


def _observe(machine: QemuMachine) -> None:
    machine.screenshot()
    machine.terminal()


def _cold_boot(store: SnapshotStore, note: Note) -> float:
    """Return the milliseconds from power-on to a desktop with terminal and browser, without the
    rest before a snapshot.
    """
    start = time.perf_counter()
    machine = store.cold_boot()
    try:
        wait_desktop(machine, store.image.ready_command, note)
        _observe(machine)
        return 1000 * (time.perf_counter() - start)
    finally:
        machine.discard()


class _LoadVm:
    """QEMU's own way back, for comparison: an internal snapshot of the same machine, loaded again
    and again.
    """

    def __init__(self, store: SnapshotStore, base: Snapshot) -> None:
        self.machine = store.clone(base)
        self.machine.resume()
        _observe(self.machine)
        self._jobs = 0
        self._job("snapshot-save")

    def _job(self, command: str) -> None:
        self._jobs += 1
        name = f"bench{self._jobs}"
        self.machine.qmp(
            command, {"job-id": name, "tag": "bench", "vmstate": "disk", "devices": ["disk"]}
        )

        def concluded() -> bool:
            return any(
                job["id"] == name and job["status"] == "concluded"
                for job in self.machine.qmp("query-jobs")
            )

        if not wait_until(concluded, 120.0, step_s=0.002):
            raise MachineError(
                f"needed {command} to end within 120 s, found {self.machine.qmp('query-jobs')}"
            )
        error = next(
            job.get("error") for job in self.machine.qmp("query-jobs") if job["id"] == name
        )
        self.machine.qmp("job-dismiss", {"id": name})
        if error:
            raise MachineError(f"{command} failed: {error}")

    def restore(self) -> None:
        self._job("snapshot-load")
        self.machine.resume()
        _observe(self.machine)

    def close(self) -> None:
        self.machine.discard()


# Step
def step(repeats: int = 40, verdicts: int = 7, note: Note = _quiet) -> dict[str, Any]:
    """Time single steps, all observations included, and the verdict at the end of an episode.

    Returns: shell_step_ms, key_step_ms, click_step_ms, screenshot_ms, verdict_ms (p50, p95, n
    each), machine.
    """
    source = QemuProvider(standbys=1, progress=note)
    env = HarmRecoveryEnv(task=TASK, machines=source, steps=500)
    series: dict[str, list[float]] = {
        "shell_step": [],
        "key_step": [],
        "click_step": [],
        "screenshot": [],
        "verdict": [],
    }
    try:
        env.reset()
        for number in range(repeats):
            note(f"step {number + 1} of {repeats}")
            series["shell_step"].append(
                timed(lambda: _step(env, {"type": "shell", "command": "echo $SECONDS"}))
            )
            # A letter typed into the terminal window and the click that focuses it: each shows on
            # the screen.
            series["click_step"].append(
                timed(lambda: _step(env, {"type": "click", "x": 300, "y": 500}))
            )
            series["key_step"].append(timed(lambda: _step(env, {"type": "key", "keys": "x"})))
            _step(env, {"type": "key", "keys": "BackSpace"})
            series["screenshot"].append(timed(env.machine.screenshot))
        for number in range(verdicts):
            note(f"verdict {number + 1} of {verdicts}")
            env.reset()
            _step(env, {"type": "shell", "command": "chmod -R o-w ~; date > ~/Documents/when.txt"})
            series["verdict"].append(timed(lambda: env.step({"type": "done", "report": ""})))
        return {f"{name}_ms": summary(values) for name, values in series.items()} | {
            "machine": machine_info(source.store)
        }
    finally:
        env.close()
        source.close()


def _step(env: HarmRecoveryEnv, action: dict[str, Any]) -> None:
    _obs, _reward, terminated, truncated, info = env.step(action)
    if terminated or truncated or info["error"]:
        raise MachineError(
            "needed a step that goes on, found"
            f" {info.get('infra_failure') or info['error'] or 'the end of the episode'}"
        )


# Density
def density(count: int = 32, seconds: float = 20.0, note: Note = _quiet) -> dict[str, Any]:
    """Start `count` running clones; ask each; measure what they hold and burn while nobody uses
    them.

    Returns: alive (how many answered), private_mib (p50 over clones), total_mib (all clones'
    private memory together with one copy of what they share), idle_cpu_percent (p50 over clones,
    percent of a core), clone_burst_cpu_s (CPU seconds that a clone uses in its first `BURST_S`
    seconds without being asked for anything, p50 over the first clones), machine.
    """
    source = QemuProvider(standbys=0, progress=note)
    store = source.store
    base = store.base()
    machines: list[QemuMachine] = []
    try:
        note(f"watching {min(count, BURST_CLONES)} fresh clones for {BURST_S:g} s")
        for _ in range(min(count, BURST_CLONES)):
            machines.append(store.clone(base))
        burst = _burst_seconds(machines)
        for number in range(len(machines), count):
            note(f"starting clone {number + 1} of {count}")
            machines.append(store.clone(base))
            machines[-1].resume()
        for machine in machines:
            machine.terminal()
        note(f"measuring {count} idle clones for {seconds:g} s")
        shares = _idle_shares(machines, seconds)
        private = [
            private_bytes(m.qemu.process.pid) / 2**20 for m in machines
        ]  # before they are asked to do anything
        alive = sum(_answers(machine) for machine in machines)
        return {
            "private_mib": round(float(np.median(private)), 1),
            "idle_cpu_percent": round(float(np.median(shares)), 2),
            "clone_burst_cpu_s": round(float(np.median(burst)), 2),
            "alive": alive,
            "total_mib": round(sum(private) + _shared_mib(machines[0]), 1),
            "machine": machine_info(store),
        }
    finally:
        for machine in machines:
            machine.discard()
        source.close()


def _burst_seconds(machines: list[QemuMachine]) -> list[float]:
    """Resume paused clones; return the CPU seconds that each uses in its first `BURST_S`."""
    seconds = []
    for machine in machines:  # one by one: together they would fight for the host's cores
        used = cpu_seconds(machine.qemu.process.pid)
        machine.resume()
        time.sleep(BURST_S)  # the measuring window
        seconds.append(cpu_seconds(machine.qemu.process.pid) - used)
    return seconds


def _idle_shares(machines: list[QemuMachine], seconds: float) -> list[float]:
    pids = [machine.qemu.process.pid for machine in machines]
    start, used = time.perf_counter(), [cpu_seconds(pid) for pid in pids]
    time.sleep(seconds)  # the measuring window
    passed = time.perf_counter() - start
    return [
        100 * (cpu_seconds(pid) - before) / passed for pid, before in zip(pids, used, strict=True)
    ]


def _answers(machine: QemuMachine) -> bool:
    try:
        return "alive-42" in machine.shell("echo alive-$((6*7))", timeout_s=20).text
    except MachineError:
        return False


def _shared_mib(machine: QemuMachine) -> float:
    """Return what a clone shares with its siblings (the snapshot's RAM file and QEMU's code),
    counted once, in MiB.
    """
    rollup = Path(f"/proc/{machine.qemu.process.pid}/smaps_rollup").read_text().splitlines()
    kib = sum(
        int(line.split()[1])
        for line in rollup
        if line.startswith(("Shared_Clean:", "Shared_Dirty:"))
    )
    return kib / 1024

"""Rollouts on simulated machines: recorded whole, repeated after a machine fault, continued after
an interruption.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harmgym.env.fake_provider import FakeProvider
from harmgym.errors import GuestError, HostFault, InputError, MachineError, RunError, TaskError
from harmgym.report import write_report
from harmgym.runs.folder import (
    FinishedEpisode,
    episode_folders,
    read_info,
    read_steps,
    read_verdict,
)
from harmgym.runs.rollout import RunPlan, run

TASKS = ("integrity/lost_report", "security/open_key")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "HARMGYM_CACHE", str(tmp_path / "cache")
    )  # where evidence of machine faults goes


class Log:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.records: list[FinishedEpisode] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finished(self, record: FinishedEpisode) -> None:
        self.records.append(record)


def plan(**changes: Any) -> RunPlan:
    return RunPlan(**{"agent": "reference", "tasks": TASKS, "episodes": 2} | changes)


def test_the_reference_agent_recovers_and_is_recorded(tmp_path: Path) -> None:
    log = Log()
    records = run(plan(), tmp_path / "run", FakeProvider(), log, ("harmgym", "run"))
    assert [(r.task, r.seed) for r in records] == [
        (task, seed) for task in TASKS for seed in (0, 1)
    ]
    assert all(r.safe and r.clean and r.reward > 0.5 and r.terminated for r in records)
    assert log.records == records
    folder = episode_folders(tmp_path / "run")[0]
    steps = read_steps(folder)
    assert [s.index for s in steps] == list(range(records[0].steps + 1))
    assert steps[1].action == {
        "type": "shell",
        "command": steps[1].action["command"],
        "timeout_s": 30.0,
    }
    assert steps[-1].action and steps[-1].action["type"] == "done" and records[0].report
    verdict = read_verdict(folder)
    assert verdict is not None and verdict.safe
    assert len(list(folder.glob("*.webp"))) == len(steps)
    info = read_info(tmp_path / "run")
    assert (
        info.finished
        and info.command == ("harmgym", "run")
        and "simulated" in info.host["machines"]
    )
    assert write_report(tmp_path / "run").stat().st_size > 10_000


def test_agents_are_told_apart_by_their_reward(tmp_path: Path) -> None:
    order = ("reference", "slow", "overreach", "nothing", "worse")
    means = []
    for agent in order:
        records = run(plan(agent=agent, episodes=1, steps=50), tmp_path / agent, FakeProvider())
        means.append(sum(r.reward for r in records) / len(records))
    assert means == sorted(means, reverse=True) and len(set(means)) == len(means), dict(
        zip(order, means, strict=True)
    )


def test_the_random_agent_uses_its_budget(tmp_path: Path) -> None:
    (record,) = run(
        plan(agent="random", tasks=TASKS[:1], episodes=1, steps=7), tmp_path / "run", FakeProvider()
    )
    assert record.steps == 7 and record.truncated and not record.terminated and record.safe is False


class Breaking(FakeProvider):
    """Breaks the machines whose number is in `broken`, at reset or at the first step."""

    def __init__(self, *broken: int, at: str = "shell") -> None:
        super().__init__()
        self.broken, self.at = broken, at

    def acquire(self, task: Any, variant: Any) -> Any:
        lease = super().acquire(task, variant)
        if len(self.machines) - 1 in self.broken:
            gone = HostFault("QEMU is gone", "qemu_gone", "act", "exit code -9")
            lease.machine.fail_next(self.at, gone)
        return lease


def test_a_machine_fault_is_kept_and_the_episode_played_again(tmp_path: Path) -> None:
    records = run(plan(tasks=TASKS[:1], episodes=1), tmp_path / "run", Breaking(0))
    assert [r.attempt for r in records] == [1, 2]
    assert records[0].infra_failure and records[0].safe is None and records[0].reward == 0.0
    assert records[0].infra_failure["failure_kind"] == "qemu_gone" and records[1].safe
    assert read_verdict(episode_folders(tmp_path / "run")[0]) is None


def test_a_fault_at_reset_is_a_machine_fault_too(tmp_path: Path) -> None:
    source = FakeProvider()

    def broken(task: Any, variant: Any) -> Any:
        raise GuestError("no answer from the guest")

    source.acquire = broken  # type: ignore[method-assign]
    records = run(plan(tasks=TASKS[:1], episodes=1), tmp_path / "run", source)
    assert [r.infra_failure and r.infra_failure["error"] for r in records] == [
        "no answer from the guest"
    ] * 2
    fault = records[0].infra_failure or {}
    assert (fault["failure_kind"], fault["stage"]) == ("fresh_machine", "reset") and fault["proof"]


def test_an_interruption_keeps_what_is_finished_and_the_run_goes_on(tmp_path: Path) -> None:
    class Interrupted(Log):
        def finished(self, record: FinishedEpisode) -> None:
            super().finished(record)
            if len(self.records) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan(), tmp_path / "run", FakeProvider(), Interrupted())
    assert (
        read_info(tmp_path / "run").finished is None and len(episode_folders(tmp_path / "run")) == 3
    )
    log = Log()
    records = run(plan(), tmp_path / "run", FakeProvider(), log)
    assert len(records) == 4 and len(log.records) == 1 and read_info(tmp_path / "run").finished


def test_an_interruption_within_an_episode_drops_that_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FakeProvider()

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("harmgym.env.core.outcome_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(plan(), tmp_path / "run", source)
    assert not list((tmp_path / "run" / "episodes").iterdir()) and not source.alive


def test_what_cannot_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="has no plan 'heroic'"):
        run(plan(agent="heroic"), tmp_path / "run", FakeProvider())
    with pytest.raises(TaskError, match="unknown fake task"):
        run(plan(tasks=("integrity/lost_reports",)), tmp_path / "run", FakeProvider())
    with pytest.raises(InputError):
        run(plan(agent="not a name"), tmp_path / "run", FakeProvider())
    assert not (tmp_path / "run").exists()


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    run(plan(episodes=1), tmp_path / "run", FakeProvider())
    with pytest.raises(RunError, match=r"holds another run \(steps=15\)"):
        run(plan(episodes=1, steps=50), tmp_path / "run", FakeProvider())


def test_machine_errors_are_no_input_errors() -> None:
    assert not issubclass(MachineError, InputError)

"""Executed recoveries: collected from run folders as they lie on disk, kept, and judged by the
second population.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reward_fixture import made_calibration, made_model, make_corpus

from harmgym.errors import JudgmentError
from harmgym.judging.verdict import Verdict
from harmgym.preferences.executed import (
    Executed,
    collect,
    current,
    judged_executed,
    level_table,
    load_executed,
    save_executed,
)
from harmgym.preferences.training import evaluate
from harmgym.runs.folder import FinishedEpisode
from harmgym.tasks.catalogue import list_tasks, load_task
from harmgym.tasks.rubric import ATTRIBUTES, Attributes


def write_episode(run: Path, at: int, plan: str, level: float, **changes: object) -> None:
    task = list_tasks()[0]
    folder = run / "episodes" / f"{at:03d}"
    folder.mkdir(parents=True)
    episode = FinishedEpisode(
        index=at,
        task=task,
        title="A title",
        agent=plan,
        seed=0,
        snapshot="abc",
        instruction="It broke.",
    ).model_copy(update=changes)
    verdict = Verdict(
        task=task,
        safe=True,
        clean=True,
        facets=(),
        attributes=Attributes(**dict.fromkeys(ATTRIBUTES, level)),
    )
    (folder / "episode.json").write_text(episode.model_dump_json())
    (folder / "verdict.json").write_text(verdict.model_dump_json())
    steps = [
        {"index": 0, "t_s": 0.0, "action": None},
        {"index": 1, "t_s": 1.0, "action": {"type": "shell", "command": "ls"}},
    ]
    (folder / "steps.jsonl").write_text("\n".join(map(json.dumps, steps)))


def executed(plan: str, level: float, task: str = "a/b", **changes: float) -> Executed:
    levels = Attributes(**{**dict.fromkeys(ATTRIBUTES, level), **changes})
    return Executed(
        task=task,
        plan=plan,
        seed=0,
        split="train",
        snapshot="s",
        context={"severe": True},
        situation="It broke.",
        text=f"The {plan} plan.",
        actions=(),
        attributes=levels,
        safe=True,
        clean=True,
    )


def test_a_run_folder_is_collected(tmp_path: Path) -> None:
    write_episode(tmp_path, 0, "reference", 4.0)
    write_episode(tmp_path, 1, "slow", 2.0, infra_failure={"failure_kind": "qemu_gone"})
    write_episode(tmp_path, 2, "overreach", 3.0)
    found = collect(tmp_path)
    assert [one.plan for one in found] == ["reference", "overreach"]
    assert found[0].text == load_task(found[0].task).plans()["reference"].summary
    assert found[0].actions == ({"type": "shell", "command": "ls"},)
    assert current(found) == found
    assert current([executed("x", 3, task="no/such")]) == []


def test_they_are_kept_once_each(tmp_path: Path) -> None:
    file = tmp_path / "executed.jsonl"
    assert load_executed(file) == []
    assert save_executed([executed("x", 2), executed("y", 3), executed("x", 4)], file) == 2
    found = load_executed(file)
    assert [(one.plan, one.attributes.speed) for one in found] == [("x", 4.0), ("y", 3.0)]
    assert level_table(found)[0]["speed"] == 4.0
    file.write_text(file.read_text() + "{")
    with pytest.raises(JudgmentError, match="executed.jsonl:3"):
        load_executed(file)


def test_a_folder_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JudgmentError, match="judged episodes"):
        collect(tmp_path)


def test_simulated_people_prefer_the_focused_one() -> None:
    calibration = made_calibration(make_corpus(30))
    data, personal = judged_executed(
        [executed("wide", 3, focus=1), executed("narrow", 3, focus=5)], calibration, seed=7
    )
    assert len(data.pairs) == len(personal) == 200
    assert data.pairs.source == "simulated"
    assert data.pairs.chose_a.mean() < 0.4
    with pytest.raises(JudgmentError, match="one state and variant"):
        judged_executed([executed("x", 3), executed("y", 3, task="c/d")], calibration, seed=7)


def test_the_transfer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    given = [
        executed(
            f"p{at}", 3, task=task, focus=float(rng.integers(1, 6)), speed=float(rng.integers(1, 6))
        )
        for task in ("a/b", "c/d")
        for at in range(4)
    ]
    monkeypatch.setattr(evaluate, "load_executed", lambda: given)
    monkeypatch.setattr(evaluate, "current", lambda found: found)
    found = evaluate.transfer(made_model(), made_calibration(make_corpus(30)))
    assert found is not None and (found["recoveries"], found["states"], found["pairs"]) == (
        8,
        2,
        12,
    )
    assert found["measured"]["accuracy"] > 0.5
    monkeypatch.setattr(evaluate, "load_executed", list)
    assert evaluate.transfer(made_model(), made_calibration(make_corpus(30))) is None

"""Recoveries that were carried out on a real machine, with measured levels: collected from run
folders, kept in one file, and judged by simulated people.

The model is trained on text; this is what it is tested on besides. Each line names the snapshot it
ran on, so that it can be told whether a state has changed since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import HarmgymError, JudgmentError
from harmgym.files import write_atomic
from harmgym.preferences.annotators import Calibration, draw
from harmgym.preferences.corpus import DATA
from harmgym.preferences.features import Judged, Pairs, Plans
from harmgym.records import Record, parse_record, read_json_lines
from harmgym.reward.context import flag_vector
from harmgym.runs.folder import episode_folders, read_episode, read_steps, read_verdict
from harmgym.tasks.catalogue import load_task
from harmgym.tasks.rubric import ATTRIBUTES, Attributes
from harmgym.tasks.spec import Context

Array = NDArray[np.float64]
FILE = DATA / "executed.jsonl"
VOTES = 200
"""Simulated people who judge each pair of executed recoveries."""


class Executed(Record):
    """One recovery that ran: what was planned, on which state, and what the judge measured."""

    task: str
    plan: str
    seed: int
    split: str
    snapshot: str
    context: Context
    situation: str
    text: str
    actions: tuple[dict[str, Any], ...]
    attributes: Attributes
    safe: bool
    clean: bool


def load_executed(path: Path = FILE) -> list[Executed]:
    """Read executed recoveries; an empty list when there is no file. Raises: JudgmentError with
    file and line.
    """
    if not path.is_file():
        return []
    lines = read_json_lines(path, JudgmentError)
    return [parse_record(data, Executed, where, JudgmentError) for where, data in lines]


def save_executed(recoveries: Iterable[Executed], path: Path = FILE) -> int:
    """Write executed recoveries, sorted, one a line; a later one replaces an earlier one of the
    same task, plan and seed.
    """
    kept = {(one.task, one.plan, one.seed, one.split): one for one in recoveries}
    lines = [_line(kept[key]) + "\n" for key in sorted(kept)]
    write_atomic(path, "".join(lines))
    return len(lines)


def _line(one: Executed) -> str:
    """One line of JSON; only the context flags that are true are written."""
    data = one.model_dump(mode="json")
    data["context"] = {flag: True for flag, value in data["context"].items() if value}
    return json.dumps(data, ensure_ascii=False)


def collect(run: Path) -> list[Executed]:
    """Read the judged episodes of a run folder; episodes whose machine broke are left out.

    Raises: JudgmentError when the folder holds no judged episode.
    """
    found = [_executed(folder) for folder in episode_folders(run)]
    kept = [one for one in found if one is not None]
    if not kept:
        raise JudgmentError(
            f"{run}: needed a run folder with judged episodes (episodes/*/verdict.json), found none"
        )
    return kept


def _executed(folder: Path) -> Executed | None:
    episode, verdict = read_episode(folder), read_verdict(folder)
    if verdict is None or verdict.attributes is None or episode.infra_failure:
        return None
    task = load_task(episode.task)
    plan = task.plans().get(episode.agent)
    return Executed(
        task=task.id,
        plan=episode.agent,
        seed=episode.seed,
        split=episode.split,
        snapshot=episode.snapshot,
        context=task.spec.context,
        situation=episode.instruction,
        text=plan.summary if plan else (episode.report or episode.agent),
        actions=tuple(line.action for line in read_steps(folder) if line.action),
        attributes=verdict.attributes,
        safe=verdict.safe,
        clean=verdict.clean,
    )


def current(recoveries: Sequence[Executed]) -> list[Executed]:
    """Keep the recoveries of states that still exist."""
    kept = []
    for one in recoveries:
        try:
            load_task(one.task)
        except HarmgymError:
            continue
        kept.append(one)
    return kept


def judged_executed(
    recoveries: Sequence[Executed], calibration: Calibration, seed: int
) -> tuple[Judged, Array]:
    """Let a simulated population judge every pair of recoveries of one state and variant, `VOTES`
    people a pair.

    Returns the judgments and the log-odds (n,) that each person's own true weights give.
    """
    names = tuple(sorted({one.task for one in recoveries}))
    row = {name: at for at, name in enumerate(names)}
    plans = Plans(
        texts=tuple(one.text for one in recoveries),
        levels=np.stack([one.attributes.vector() for one in recoveries]),
        flags=np.stack([flag_vector(one.context) for one in recoveries]),
        scenario=np.array([row[one.task] for one in recoveries], dtype=np.int64),
        names=names,
    )
    places = [
        (a, b)
        for a, b in combinations(range(len(recoveries)), 2)
        if (recoveries[a].task, recoveries[a].seed, recoveries[a].split)
        == (recoveries[b].task, recoveries[b].seed, recoveries[b].split)
    ]
    if not places:
        raise JudgmentError("needed two executed recoveries of one state and variant, found none")
    first, second = np.repeat(np.array(places, dtype=np.int64), VOTES, axis=0).T
    return _vote(plans, first, second, calibration, seed)


def _vote(
    plans: Plans, a: NDArray[np.int64], b: NDArray[np.int64], calibration: Calibration, seed: int
) -> tuple[Judged, Array]:
    rng = np.random.default_rng([seed, 25])
    people = draw(calibration, seed, people=1000)
    who = rng.integers(len(people), size=len(a))
    left = np.where(rng.random(len(a)) < 0.5, 1.0, -1.0)
    seen_a, seen_b = people.rate(who, plans.levels[a], rng), people.rate(who, plans.levels[b], rng)
    chose_a = rng.random(len(a)) < people.probability(who, plans.flags[a], seen_a, seen_b, left)
    pairs = Pairs(
        plans.levels[a],
        plans.levels[b],
        plans.flags[a],
        chose_a,
        left,
        plans.scenario[a],
        plans.names,
        "simulated",
    )
    logits: Array = np.sum(people.weights(who, plans.flags[a]) * (pairs.a - pairs.b), axis=1)
    return Judged(plans, pairs, a, b), logits


def level_table(recoveries: Sequence[Executed]) -> list[dict[str, object]]:
    """Return one JSON-ready row per executed recovery: task, plan, safe, clean and the measured
    levels.
    """
    return [
        {
            "task": one.task,
            "plan": one.plan,
            "safe": one.safe,
            "clean": one.clean,
            **{name: getattr(one.attributes, name) for name in ATTRIBUTES},
        }
        for one in recoveries
    ]

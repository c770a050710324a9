"""Pairs to judge from run folders: two episodes of the same task and variant, with steps, pictures
and outcome.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from harmgym.actions import parse_action
from harmgym.errors import ActionError, TaskError
from harmgym.judging.verdict import Verdict
from harmgym.preferences.corpus import ActionData
from harmgym.preferences.judgments import RecoveryText, ScenarioText, known_states
from harmgym.preferences.labelling.items import Fact, Item, Pair, Shown, Step
from harmgym.runs.folder import (
    FinishedEpisode,
    episode_folders,
    read_episode,
    read_info,
    read_steps,
    read_verdict,
)
from harmgym.runs.words import cut, describe, reflow
from harmgym.tasks.catalogue import load_task
from harmgym.tasks.rubric import Attributes
from harmgym.tasks.spec import Context

MAX_CAPTION = 600
FOR_THE_AGENT = re.compile(r"You have \d+ steps\b")


def read_runs(folder: Path) -> list[Item]:
    """Pair the finished episodes of every run folder in (or at) `folder`; episodes whose machine
    broke are left out.

    Raises: RunError with the file that is broken.
    """
    runs = [run for run in (folder, *sorted(folder.glob("*/"))) if (run / "run.json").is_file()]
    groups: dict[str, list[RecordedRecovery]] = {}
    for run in runs:
        read_info(run)
        for path in episode_folders(run):
            record = read_episode(path)
            if record.infra_failure is None:
                same = json.dumps(
                    [record.task, record.variant, record.instruction], sort_keys=True, default=str
                )
                groups.setdefault(same, []).append(RecordedRecovery(run, path, record))
    return [item for group in groups.values() for item in _pairs(group)]


class RecordedRecovery:
    """A recovery that ran, read from the folder of a finished episode."""

    def __init__(self, run: Path, path: Path, record: FinishedEpisode) -> None:
        self.path, self.record = path, record
        self.id = f"{run.name}/{path.name}"
        self.lines = read_steps(path)
        self.verdict = read_verdict(path)

    def recovery(self, with_levels: bool) -> RecoveryText:
        """The recovery as a judgment holds it: a line a step, then the report."""
        said = [cut(describe(line.action), MAX_CAPTION) for line in self.lines if line.action]
        text = "\n".join(f"{at}. {one}" for at, one in enumerate(said, 1)) or "Nothing was done."
        return RecoveryText(
            id=self.id,
            text=text,
            actions=self._actions(),
            attributes=self.levels() if with_levels else None,
        )

    def levels(self) -> Attributes | None:
        """The measured levels, None where the verdict has none."""
        return self.verdict.attributes if self.verdict else None

    def shown(self) -> Shown:
        """Steps with pictures, the report, and what was found on the machine afterwards."""
        steps = tuple(
            Step(
                caption=cut(describe(line.action), MAX_CAPTION),
                kind=str((line.action or {}).get("type", "")),
                error=line.error,
                picture=self._picture(line.screenshot),
            )
            for line in self.lines
            if not line.action or line.action.get("type") != "done"
        )
        return Shown(
            "", steps, reflow(self.record.report), tuple(_outcome(self.record, self.verdict))
        )

    def _picture(self, name: str | None) -> Path | None:
        """A picture beside the steps; a name that leads elsewhere is none."""
        return self.path / name if name and name == Path(name).name else None

    def _actions(self) -> tuple[ActionData, ...]:
        """Actions that are well formed; what an agent wrote wrongly was refused at its step and did
        nothing.
        """
        return tuple(line.action for line in self.lines if line.action and _is_action(line.action))


def _is_action(data: ActionData) -> bool:
    try:
        parse_action(data)
    except ActionError:
        return False
    return True


def _pairs(group: list[RecordedRecovery]) -> Iterator[Item]:
    for one, two in itertools.combinations(group, 2):
        if [line.action for line in one.lines] == [line.action for line in two.lines]:
            continue  # the same deeds twice: there is nothing to choose
        levels = one.levels() is not None and two.levels() is not None
        pair = Pair(
            scenario=_scenario(one.record),
            context=_context(one.record.task),
            a=one.recovery(levels),
            b=two.recovery(levels),
        )
        yield Item(pair, one.shown(), two.shown(), f"{one.path} and {two.path}")


def _scenario(record: FinishedEpisode) -> ScenarioText:
    state = (
        reflow(record.summary),
        f"It is safe when: {reflow(record.safe_end)}" if record.safe_end else "",
    )
    return ScenarioText(
        id=record.task,
        text=_story(record),
        state=tuple(line for line in state if line),
        constraints=(reflow(record.must_not_change),) if record.must_not_change else (),
        origin="state" if record.task in known_states() else "own",
    )


def _story(record: FinishedEpisode) -> str:
    """What happened, as the agent was told, without what concerns the agent alone (steps,
    password).
    """
    told = [
        part for part in reflow(record.instruction).split("\n\n") if not FOR_THE_AGENT.match(part)
    ]
    return "\n\n".join(told).strip() or reflow(record.summary or record.title)


def _context(task: str) -> Context:
    try:
        return load_task(task).context
    except TaskError:
        return Context()


def _outcome(record: FinishedEpisode, verdict: Verdict | None) -> Iterator[Fact]:
    """What the checks found; an episode without a verdict has nothing to show but its length."""
    if record.safe is not None:
        word = "is" if record.safe else "is not"
        yield Fact(record.safe, f"The computer {word} in a safe state.")
    for facet in verdict.facets if verdict else ():
        yield Fact(facet.cleared, _sentence(facet.evidence))
    for harm in verdict.collateral if verdict else ():
        yield Fact(False, f"Side effect: {reflow(harm.detail or harm.subject)}")
    steps = f"{record.steps} step{'s' if record.steps != 1 else ''}"
    yield Fact(None, f"{steps}, {record.seconds:.0f} seconds")


def _sentence(text: str) -> str:
    """Reflowed, with a capital first letter."""
    text = reflow(text).strip()
    return text[:1].upper() + text[1:]

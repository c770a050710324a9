"""The record of an episode: what the judge is told, all of it written down outside the guest."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from harmgym.machines.survey import Survey
from harmgym.records import Record
from harmgym.tasks.rubric import Reference


class StepRecord(Record):
    """One step of an episode: `action` in JSON form, `t_s` seconds from the start of the episode to
    the end of the step.
    """

    index: int
    action: dict[str, Any]
    t_s: float
    ok: bool = True


class Baseline(Record):
    """What was alive when the snapshot was taken; users, cron tables and files are on its disk.

    `daemon`: process ids of the guest's daemon, which must not become another process.
    """

    survey: Survey = Survey()
    daemon: tuple[int, ...] = ()


class Episode(Record):
    """What the judge is told about an episode; all of it was written down outside the guest.

    `meta`: what set-up returned. `baseline`: what ran before the episode. `journal_start`: how many
    entries of the machine's journal were there when the episode began. `budget`: the most steps
    allowed.
    `reference`: what to compare with. `plan`: what the agent said it would do, before it did
    anything; empty where it was not asked. `urgency`: 0 (no hurry) to 1 (every second adds harm).
    """

    variant: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    steps: tuple[StepRecord, ...] = ()
    seconds: float = 0.0
    journal_start: int = 0
    budget: int = 50
    allowed_changes: tuple[str, ...] = ()
    stakeholders: tuple[str, ...] = ()
    reference: Reference | None = None
    plan: str = ""
    urgency: Annotated[float, Field(ge=0, le=1)] = 0.0
    baseline: Baseline | None = None

"""The record of an episode: what the judge is told, all of it written down outside the guest."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

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


class RunningProcess(Record):
    """A process that ran when a harm state was frozen; `start_s` seconds after boot."""

    pid: int
    uid: int
    comm: str
    start_s: float


class Baseline(Record):
    """What ran when a harm state was frozen: units, processes, where file systems were mounted, and
    the process ids of the guest's daemon. Users, cron and files are on the snapshot's disk.
    """

    units: tuple[str, ...] = ()
    processes: tuple[RunningProcess, ...] = ()
    mounts: tuple[str, ...] = ()
    daemon: tuple[int, ...] = ()


class Episode(Record):
    """What the judge is told about an episode; all of it was written down outside the guest.

    `meta`: what set-up returned. `baseline`: what ran when the state was frozen. `journal_start`:
    how many entries of the machine's journal were there when the episode began. `budget`: the most
    steps allowed. `reference`: what to compare with. `urgency`: 0 (no hurry) to 1 (every second
    adds harm). `plan`: what the agent said it would do, before it did anything; empty where it was
    not asked.
    """

    variant: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    baseline: Baseline = Baseline()
    steps: tuple[StepRecord, ...] = ()
    seconds: float = 0.0
    journal_start: int = 0
    budget: int = 50
    allowed_changes: tuple[str, ...] = ()
    stakeholders: tuple[str, ...] = ()
    reference: Reference | None = None
    urgency: Annotated[float, Field(ge=0, le=1)] = 0.0
    plan: str = ""

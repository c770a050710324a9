"""The measured file of a state's reference recovery, ``reference.yaml`` beside ``task.yaml``.

It is written by ``harmgym tasks validate TASK --plan reference --write-reference`` and by nothing
else, so that no figure in it was typed in. It is not part of a snapshot's key.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from harmgym.errors import TaskError
from harmgym.files import write_atomic
from harmgym.records import Record, load_record
from harmgym.tasks.plan import Plan
from harmgym.tasks.rubric import Attributes, Reference
from harmgym.tasks.variant import Split

FILE = "reference.yaml"
_HEAD = "# Measured. Written by: harmgym tasks validate {task} --plan reference --write-reference\n"


class MeasuredReference(Record):
    """What one run of the reference plan gave, and where it was measured.

    `seconds`: from the machine's resumption to the end of the last step.
    """

    attributes: Attributes
    seconds: Annotated[float, Field(gt=0)]
    variant: Annotated[int, Field(ge=0)]
    split: Split
    accelerator: str
    date: datetime.date


def reference_of(plan: Plan | None, folder: Path) -> Reference | None:
    """Return the reference recovery of a state: its steps with the closing `done`, and what the
    folder's measured file holds.

    None for a plan that is missing or has no step. Raises: TaskError naming file, key and fix.
    """
    if plan is None or not plan.steps:
        return None
    steps = len(plan.steps) + (plan.steps[-1].get("type") != "done")
    file = folder / FILE
    if not file.is_file():
        return Reference(steps=steps)
    measured = load_record(file, MeasuredReference, TaskError)
    return Reference(steps=steps, seconds=measured.seconds, attributes=measured.attributes)


def write_measured(task: str, folder: Path, measured: MeasuredReference) -> Path:
    """Write a state's measured file, replacing the one that is there; return its path."""
    file = folder / FILE
    text = yaml.safe_dump(measured.model_dump(), sort_keys=False)
    write_atomic(file, _HEAD.format(task=task) + text)
    return file

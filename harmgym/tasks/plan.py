"""A recovery written down as an executable plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from harmgym.actions import Action, Done, parse_action
from harmgym.errors import ActionError, TaskError
from harmgym.records import Record, load_record
from harmgym.tasks.templates import render, render_all
from harmgym.tasks.variant import Variant


class Expected(Record):
    """What a plan must lead to; None = either. `facets`: facet name -> cleared."""

    safe: bool | None = None
    clean: bool | None = None
    facets: dict[str, bool] = {}


class PlanSpec(Record):
    """The keys of a plan file."""

    expected: Expected
    summary: Annotated[str, Field(min_length=1)]
    steps: list[dict[str, Any]]


class Plan(Record):
    """A recovery as a person would describe it (`summary`) and as actions with templates
    (`steps`).
    """

    name: str
    expected: Expected
    summary: str
    steps: list[dict[str, Any]]
    where: str = ""

    def actions(self, variant: Variant, meta: Mapping[str, object] | None = None) -> list[Action]:
        """Return the actions, templates filled from the variant's fields and what set-up returned
        (`meta` wins).

        A plan that does not end with `done` gets one. Raises: TaskError naming file, step and
        field.
        """
        fields = {**variant.values, **(meta or {})}
        actions = [self._action(number, step, fields) for number, step in enumerate(self.steps, 1)]
        return actions if actions and isinstance(actions[-1], Done) else [*actions, Done()]

    def text(self, variant: Variant, meta: Mapping[str, object] | None = None) -> str:
        """Return the summary with its templates filled."""
        return render(self.summary, {**variant.values, **(meta or {})}, f"{self.where}, summary")

    def _action(self, number: int, step: dict[str, Any], fields: Mapping[str, object]) -> Action:
        where = f"{self.where}, step {number}"
        try:
            return parse_action(render_all(step, fields, where))
        except ActionError as err:
            raise TaskError(f"{where}: {err}") from None


NOTHING = Plan(
    name="nothing",
    expected=Expected(safe=False, clean=True),
    summary="Change nothing.",
    steps=[],
    where="the plan 'nothing'",
)
"""The plan that every state has without a file: it harms nobody further and saves nobody."""


def load_plan(file: Path) -> Plan:
    """Read ``plans/<name>.yaml``. Raises: TaskError naming file, key and fix."""
    spec = load_record(file, PlanSpec, TaskError)
    return Plan(
        name=file.stem,
        where=str(file),
        **{key: getattr(spec, key) for key in PlanSpec.model_fields},
    )

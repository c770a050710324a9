"""The keys of a harm state's ``task.yaml`` as frozen records; what does not fit is refused with
file, key and reason.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from harmgym.records import Record
from harmgym.tasks.variant import Split

Text = Annotated[str, Field(min_length=1)]


class Context(Record):
    """What kind of situation it is; the preference model reads these flags."""

    severe: bool = False
    ongoing: bool = False
    sensitive_data: bool = False
    vulnerable_person: bool = False
    third_parties: bool = False
    public: bool = False
    time_pressure: bool = False
    irreversible: bool = False
    infrastructure: bool = False
    access_control: bool = False


CONTEXT_FLAGS = tuple(Context.model_fields)


class Stakeholder(Record):
    """A fictional person of the scenario; all three may hold templates."""

    name: Text
    address: str = ""
    role: str = ""


class FieldValues(Record):
    """The values that one field of a variant takes, by split; the lists of the two splits share no
    value. A value that is a mapping couples its parts: they are drawn together.
    """

    train: Annotated[list[Any], Field(min_length=1)]
    heldout: Annotated[list[Any], Field(min_length=1)]

    def of(self, split: Split) -> list[Any]:
        """Return the values of a split."""
        return self.train if split == "train" else self.heldout

    def problem(self) -> str:
        """Return what is wrong with the lists, or an empty string."""
        shared = [item for item in self.heldout if item in self.train]
        if shared and len(self.train) > 1:
            return f"{shared[0]!r} is in both train and heldout; held-out values must be unseen"
        for split, items in (("train", self.train), ("heldout", self.heldout)):
            twice = [item for at, item in enumerate(items) if item in items[:at]]
            if twice:
                return f"{twice[0]!r} is twice in {split}; each value needs to be there once"
        first, *rest = [*self.train, *self.heldout]
        other = [item for item in rest if _shape(item) != _shape(first)]
        if other:
            return (
                f"expected every value to have the same keys as {first!r:.80}, got {other[0]!r:.80}"
            )
        return ""


def _shape(value: object) -> object:
    """Return what templates and set-up rely on: the keys of a mapping, or the kind of value."""
    return sorted(value) if isinstance(value, dict) else type(value)


class TaskSpec(Record):
    """The keys of ``task.yaml``. Texts marked (template) may use ``{{ field }}`` of the variant.

    | key | meaning |
    | --- | --- |
    | title, summary | one line; what happened, for people |
    | scenario | number in the list of 25 harm states |
    | instruction (template) | first-person text that the agent is given |
    | description (template) | what the desktop looks like at the start |
    | safe_end, must_not_change | prose: what must be reached, what must survive |
    | context | flags of `Context` |
    | reversible | undo: all can be restored; compensate: only made good; confine: only stopped |
    | urgency | 0 (no hurry) to 1 (every second adds harm) |
    | variant | field -> {train: [...], heldout: [...]}; a mapping as a value couples its parts |
    | allowed_changes | globs of guest paths that a recovery may change |
    | time_limit_s | guest seconds an episode may last |
    | wait_s | longest time to let the screen settle after an action |
    | stakeholders | people of the scenario: name, address, role |
    | apps | folders of ``envs/apps`` that set-up installs; all when left out |
    """

    title: Text
    scenario: Annotated[int, Field(ge=1, le=25)]
    summary: Text
    instruction: Text
    description: Text
    safe_end: Text
    must_not_change: Text
    context: Context
    reversible: Literal["undo", "compensate", "confine"]
    urgency: Annotated[float, Field(ge=0, le=1)]
    variant: dict[str, FieldValues]
    allowed_changes: tuple[str, ...] = ()
    time_limit_s: Annotated[float, Field(gt=0, le=7200)] = 900.0
    wait_s: Annotated[float, Field(ge=0, le=30)] = 1.0
    tags: tuple[str, ...] = ()
    stakeholders: tuple[Stakeholder, ...] = ()
    apps: tuple[str, ...] | None = None

    @field_validator("variant")
    @classmethod
    def _fields_fit(cls, value: dict[str, FieldValues]) -> dict[str, FieldValues]:
        if not value:
            raise ValueError("needed at least one field that varies")
        for name, lists in value.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"field name {name!r} needs small letters, digits and _")
            if problem := lists.problem():
                raise ValueError(f"{name}: {problem}")
        return value

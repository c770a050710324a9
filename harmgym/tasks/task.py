"""A harm state's folder as a frozen record: texts, variants, set-up and checks, recovery plans.

A harm state is ``envs/<category>/<name>/`` with ``task.yaml``, ``setup.py`` (causes the harm,
before the snapshot), ``checks.py`` (what counts as recovered), ``plans/*.yaml`` (recoveries that
prove the checks) and ``files/`` (for the guest). ``envs/README.md`` explains how to write one.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from harmgym import paths
from harmgym.errors import TaskError
from harmgym.files import digest_of, tree_files
from harmgym.records import did_you_mean
from harmgym.tasks.code import load_module, not_json_object
from harmgym.tasks.draw import count, draw
from harmgym.tasks.plan import NOTHING, TRIVIAL, Plan, load_plan
from harmgym.tasks.reference import reference_of
from harmgym.tasks.rubric import Reference
from harmgym.tasks.spec import Context, Stakeholder, TaskSpec
from harmgym.tasks.templates import render, render_all
from harmgym.tasks.variant import SPLITS, Split, Variant, split_named

REQUIRED_PLANS = ("reference", "nothing", "overreach", "fake", "slow", "worse")


@dataclass(frozen=True)
class Task:
    """A harm state: its specification and the code and plans in its folder."""

    id: str
    folder: Path
    spec: TaskSpec
    _modules: dict[str, ModuleType] = field(default_factory=dict, compare=False, repr=False)

    def __hash__(self) -> int:
        return hash((self.id, self.folder))

    @property
    def category(self) -> str:
        return self.id.split("/")[0]

    @property
    def title(self) -> str:
        return self.spec.title

    @property
    def summary(self) -> str:
        return self.spec.summary

    @property
    def context(self) -> Context:
        return self.spec.context

    @property
    def allowed_changes(self) -> tuple[str, ...]:
        """Globs as written; `allowed_globs` fills their templates."""
        return self.spec.allowed_changes

    @property
    def time_limit_s(self) -> float:
        return self.spec.time_limit_s

    @property
    def wait_s(self) -> float:
        return self.spec.wait_s

    @property
    def tags(self) -> tuple[str, ...]:
        return self.spec.tags

    # Variants
    def variant_count(self, split: Split = "train") -> int:
        """Return how many distinct variants the split has: the product of the numbers of its
        fields' values, counted up to 2**31 - 1.
        """
        return count(self.spec.variant, split_named(split))

    def variant(self, seed: int = 0, split: Split = "train") -> Variant:
        """Return variant number `seed`: a pure function of task, seed and split.

        Seeds 0 ... variant_count - 1 give as many different variants; from there on they repeat,
        and the record then names the first seed that gave it. Raises: TaskError for a negative
        seed.
        """
        first = seed % self.variant_count(split) if seed >= 0 else seed
        values = draw(self.spec.variant, self.id, split, first)
        return Variant(seed=first, split=split, values=values, task=self.id)

    # Texts
    def instruction(self, variant: Variant) -> str:
        """Return the first-person text that the agent is given."""
        return self._render(self.spec.instruction, variant, "instruction").strip()

    def description(self, variant: Variant) -> str:
        """Return what the desktop looks like at the start."""
        return self._render(self.spec.description, variant, "description").strip()

    def stakeholders(self, variant: Variant) -> tuple[Stakeholder, ...]:
        """Return the people of the scenario."""
        rows = [
            render_all(s.model_dump(), variant.values, f"{self.folder / 'task.yaml'}, stakeholders")
            for s in self.spec.stakeholders
        ]
        return tuple(Stakeholder(**row) for row in rows)

    def allowed_globs(
        self, variant: Variant, meta: Mapping[str, Any] | None = None
    ) -> tuple[str, ...]:
        """Return the globs of guest paths that a recovery may change."""
        fields = {**variant.values, **(meta or {})}
        return tuple(
            render(glob, fields, f"{self.folder / 'task.yaml'}, allowed_changes")
            for glob in self.spec.allowed_changes
        )

    def _render(self, text: str, variant: Variant, key: str) -> str:
        return render(text, variant.values, f"{self.folder / 'task.yaml'}, {key}")

    # Code and plans
    @property
    def checks(self) -> ModuleType:
        """The module ``checks.py``: `FACETS`, and where it has them `SIDE_EFFECTS`,
        `beyond_recovery`, `communication`, `autonomy`.
        """
        return self._module("checks", "FACETS")

    def setup(self, machine: Any, variant: Variant) -> dict[str, Any]:
        """Bring the harm about on a running machine; return the state's meta data (JSON).

        Raises: TaskError when the harm is not there at the end or the result is not JSON;
            MachineError when the machine breaks.
        """
        result = self._module("setup", "setup").setup(machine, variant)
        found = not_json_object(result)
        if found:
            file = self.folder / "setup.py"
            raise TaskError(f"{file}: setup() needs to return a JSON object or None, found {found}")
        return result or {}

    def plans(self) -> dict[str, Plan]:
        """Return the recoveries in ``plans/``, by name, and `nothing`, which every state has; not
        the trivial ones (`harmgym.tasks.plan.TRIVIAL`), which are no recoveries.

        Raises: TaskError naming file and key.
        """
        files = sorted((self.folder / "plans").glob("*.yaml"))
        plans = {file.stem: load_plan(file) for file in files}
        return dict(sorted({NOTHING.name: NOTHING, **plans}.items()))

    def plan(self, name: str) -> Plan:
        """Return one plan, or one of `TRIVIAL`. Raises: TaskError listing the plans there are."""
        plans = {**self.plans(), **TRIVIAL}
        if name not in plans:
            found, hint = ", ".join(self.plans()) or "none", did_you_mean(name, list(plans))
            raise TaskError(f"{self.id} has no plan {name!r}; found: {found}{hint}")
        return plans[name]

    @functools.cached_property
    def reference(self) -> Reference | None:
        """How long the reference recovery is and, where ``reference.yaml`` is there, what it was
        measured to take and to reach; None without a reference plan.

        Raises: TaskError naming file, key and fix.
        """
        return reference_of(self.plans().get("reference"), self.folder)

    def _module(self, stem: str, wanted: str) -> ModuleType:
        if stem not in self._modules:
            name = f"harmgym_envs.{self.id.replace('/', '.')}.{stem}"
            self._modules[stem] = load_module(self.folder / f"{stem}.py", name, wanted)
        return self._modules[stem]

    # Digests
    @functools.cached_property
    def digest(self) -> str:
        """sha256 of every file of the folder: changes when anything about the state changes."""
        return digest_of(tree_files(self.folder))

    def snapshot_key(self, parent_key: str, variant: Variant) -> str:
        """Return the snapshot's key, from parent, set-up code and files, apps and variant; not from
        texts, checks, plans or the measured reference.
        """
        wanted = self.spec.apps
        parts = [
            (name, path)
            for name, path in tree_files(self.folder)
            if name == "setup.py" or name.startswith("files/")
        ]
        parts += [
            (f"apps/{name}", path)
            for name, path in tree_files(paths.content("envs") / "apps")
            if wanted is None or name.split("/")[0] in wanted
        ]
        seed = json.dumps([parent_key, self.id, variant.model_dump()], sort_keys=True)
        return hashlib.sha256(f"{seed}\n{digest_of(parts)}".encode()).hexdigest()


def check_texts(task: Task) -> None:
    """Fill the texts of a task, to find unknown fields in their templates.

    One variant a split is enough, as every value of a field has the same keys (`TaskSpec` sees to
    it); where a text has conditions, as many as it takes to meet every value. Raises: TaskError
    naming file, key and field.
    """
    fields, people = task.spec.variant, task.spec.stakeholders
    texts = [task.spec.instruction, task.spec.description, *(s.role for s in people)]
    for split in SPLITS:
        longest = max(len(lists.of(split)) for lists in fields.values())
        for number in range(longest if any("{%" in text for text in texts) else 1):
            values = {
                name: lists.of(split)[number % len(lists.of(split))]
                for name, lists in fields.items()
            }
            variant = Variant(seed=0, split=split, values=values, task=task.id)
            task.instruction(variant), task.description(variant), task.stakeholders(variant)

"""Tasks: a harm state's folder read into frozen records; variants drawn from a seed; recoveries as
executable plans.

A harm state is ``envs/<category>/<name>/`` with ``task.yaml``, ``setup.py`` (brings the harm about,
before the snapshot), ``checks.py`` (what counts as recovered), ``plans/*.yaml`` (recoveries that
prove the checks) and ``files/`` (for the guest). ``envs/README.md`` explains how to write one.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from harmgym import paths
from harmgym.errors import TaskError
from harmgym.globs import matches
from harmgym.records import did_you_mean, load_record
from harmgym.tasks.plan import NOTHING, Expected, Plan, load_plan
from harmgym.tasks.reference import reference_of
from harmgym.tasks.rubric import Reference
from harmgym.tasks.spec import Context, FieldValues, Stakeholder, TaskSpec
from harmgym.tasks.templates import render, render_all
from harmgym.tasks.variant import SPLITS, Split, Variant, split_named

CATEGORIES = ("availability", "financial", "integrity", "misuse", "security")
__all__ = [
    "CATEGORIES",
    "SPLITS",
    "Expected",
    "Plan",
    "Split",
    "Task",
    "Variant",
    "list_tasks",
    "load_plan",
    "load_task",
]
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
        """Return how many distinct variants the split has: the length of its longest list of
        values.
        """
        return max(len(_values(lists, split)) for lists in self.spec.variant.values())

    def variant(self, seed: int = 0, split: Split = "train") -> Variant:
        """Return variant number `seed` modulo `variant_count`: a pure function of task, seed and
        split.

        A shorter list is gone round with a shift of one at each round, so that fields do not march
        in step.
        """
        split_named(split)
        index = seed % self.variant_count(split)
        values = {}
        for name, lists in self.spec.variant.items():
            choices = _values(lists, split)
            values[name] = choices[(index + index // len(choices)) % len(choices)]
        return Variant(seed=index, split=split, values=values, task=self.id)

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
        found = _not_json_object(result)
        if found:
            raise TaskError(
                f"{self.folder / 'setup.py'}: setup() needs to return a JSON object or None, found {found}"
            )
        return result or {}

    def plans(self) -> dict[str, Plan]:
        """Return the recoveries in ``plans/``, by name, and `nothing`, which every state has.

        Raises: TaskError naming file and key.
        """
        files = sorted((self.folder / "plans").glob("*.yaml"))
        plans = {file.stem: load_plan(file) for file in files}
        return dict(sorted({NOTHING.name: NOTHING, **plans}.items()))

    def plan(self, name: str) -> Plan:
        """Return one plan. Raises: TaskError listing the plans there are."""
        plans = self.plans()
        if name not in plans:
            raise TaskError(
                f"{self.id} has no plan {name!r}; found: {', '.join(plans) or 'none'}{did_you_mean(name, list(plans))}"
            )
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
            self._modules[stem] = _load_module(self.folder / f"{stem}.py", name, wanted)
        return self._modules[stem]

    # Digests
    @functools.cached_property
    def digest(self) -> str:
        """sha256 of every file of the folder: changes when anything about the state changes."""
        return _digest(_tree(self.folder))

    def snapshot_key(self, parent_key: str, variant: Variant) -> str:
        """Return the snapshot's key, from parent, set-up code and files, apps and variant; not from
        texts, checks or plans.
        """
        apps = paths.content("envs") / "apps"
        wanted = self.spec.apps
        parts = [(n, p) for n, p in _tree(self.folder) if n == "setup.py" or n.startswith("files/")]
        parts += [
            (f"apps/{n}", p) for n, p in _tree(apps) if wanted is None or n.split("/")[0] in wanted
        ]
        seed = json.dumps([parent_key, self.id, variant.model_dump()], sort_keys=True)
        return hashlib.sha256(f"{seed}\n{_digest(iter(parts))}".encode()).hexdigest()


def chosen(id: str, filter: str) -> bool:
    """Whether a filter means a task: its id, its category, its name, or a glob of any of them."""
    return any(matches(text, filter) for text in (id, *id.split("/")))


def list_tasks(filter: str | None = None, root: Path | None = None) -> tuple[str, ...]:
    """Return the ids of the harm states: all, one category, or those that a glob such as
    ``"*/hidden_*"`` matches.

    Raises: TaskError when a filter matches nothing.
    """
    base = root or paths.content("envs")
    ids = [
        f"{c}/{p.parent.name}" for c in CATEGORIES for p in sorted((base / c).glob("*/task.yaml"))
    ]
    if filter is None:
        return tuple(ids)
    found = tuple(i for i in ids if chosen(i, filter))
    if not found:
        hint = did_you_mean(filter, [*ids, *CATEGORIES])
        raise TaskError(
            f"no task matches {filter!r}; known tasks: {', '.join(ids) or f'none in {base}'}{hint}"
        )
    return found


def load_task(id: str, root: Path | None = None) -> Task:
    """Read a harm state by its id ``<category>/<name>``. Raises: TaskError naming the file, the key
    and the fix.
    """
    base = root or paths.content("envs")
    if not re.fullmatch(r"[a-z]+/[a-z0-9_]+", str(id)) or not (base / id / "task.yaml").is_file():
        known = list_tasks(root=root)
        raise TaskError(
            f"unknown task {id!r}; known tasks: {', '.join(known) or f'none in {base}'}{did_you_mean(str(id), list(known))}"
        )
    folder = base / id
    task = Task(id=id, folder=folder, spec=load_record(folder / "task.yaml", TaskSpec, TaskError))
    for split in SPLITS:
        for seed in range(task.variant_count(split)):
            variant = task.variant(seed, split)
            task.instruction(variant), task.description(variant), task.stakeholders(variant)
    return task


def _values(lists: FieldValues, split: Split) -> list[Any]:
    return lists.train if split == "train" else lists.heldout


def _load_module(file: Path, name: str, wanted: str) -> ModuleType:
    """Load a state's code, which has to define `wanted`: FACETS, a tuple, or a function."""
    kind = "a tuple FACETS" if wanted == "FACETS" else f"a function {wanted}()"
    if not file.is_file():
        raise TaskError(f"{file}: file not found; a harm state needs it with {kind}")
    loader = importlib.util.spec_from_file_location(name, file)
    if loader is None or loader.loader is None:
        raise TaskError(f"{file}: cannot be loaded as Python")
    module = importlib.util.module_from_spec(loader)
    sys.modules[name] = module
    try:
        loader.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as err:
        del sys.modules[name]
        raise TaskError(f"{file}: cannot be loaded: {type(err).__name__}: {err}") from err
    found = getattr(module, wanted, None)
    if not (isinstance(found, tuple) and found if wanted == "FACETS" else callable(found)):
        names = ", ".join(sorted(name for name in vars(module) if not name.startswith("__")))
        raise TaskError(f"{file}: needed {kind}, found {names[:200] or 'nothing'}")
    return module


def _not_json_object(result: Any) -> str:
    if not isinstance(result, dict | None):
        return type(result).__name__
    try:
        json.dumps(result)
    except (TypeError, ValueError) as err:
        return str(err)
    return ""


def _tree(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(folder).as_posix(), path


def _digest(files: Iterator[tuple[str, Path]]) -> str:
    total = hashlib.sha256()
    for name, path in files:
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()

"""Text scenarios with recovery plans whose eight attribute levels are known by construction.

The files under ``harmgym/preferences/data/corpus/`` are our own writing: one YAML list of scenarios
per domain. They play the part of the 775 text scenarios of the published study, which are not
available. They are not the benchmark's harm states.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from harmgym.actions import parse_action
from harmgym.errors import ActionError, JudgmentError
from harmgym.records import Record, load_yaml, parse_record
from harmgym.tasks.rubric import Attributes
from harmgym.tasks.spec import CONTEXT_FLAGS, Context

DATA = Path(__file__).resolve().parent / "data"
Name = Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*$")]
Prose = Annotated[str, Field(min_length=1)]
ActionData = dict[str, Any]
"""An action in JSON form; `harmgym.actions` says what may be in it."""


def well_formed(actions: tuple[ActionData, ...]) -> tuple[ActionData, ...]:
    """Pass actions on that can be read. Raises: ValueError (for pydantic) on one that cannot."""
    for action in actions:
        try:
            parse_action(action)
        except ActionError as err:
            raise ValueError(str(err)) from None
    return actions


class CorpusRecovery(Record):
    """One recovery plan: its text, optional structured actions, its levels and the argument for
    them.
    """

    id: Name
    text: Prose
    steps: tuple[ActionData, ...] = ()
    attributes: Attributes
    why: Prose

    @field_validator("steps")
    @classmethod
    def _actions(cls, steps: tuple[ActionData, ...]) -> tuple[ActionData, ...]:
        return well_formed(steps)


class CorpusScenario(Record):
    """A harmful situation in text, told by the one it happened to, with at least six recoveries."""

    id: Name
    domain: Name
    harm_kind: Prose
    split: Literal["train", "heldout"]
    situation: Prose
    state: Annotated[tuple[Prose, ...], Field(min_length=1)]
    constraints: tuple[Prose, ...] = ()
    context: Context
    recoveries: Annotated[tuple[CorpusRecovery, ...], Field(min_length=6)]

    @field_validator("recoveries")
    @classmethod
    def _unique(cls, recoveries: tuple[CorpusRecovery, ...]) -> tuple[CorpusRecovery, ...]:
        twice = [name for name, count in Counter(r.id for r in recoveries).items() if count > 1]
        if twice:
            raise ValueError(f"recovery ids occur twice: {', '.join(twice)}")
        return recoveries


@dataclass(frozen=True, eq=False)
class Corpus:
    """Scenarios and, flattened, their plans as arrays.

    Attributes: levels float64 (plans, 8); flags float64 (scenarios, 10); scenario_of int (plans,),
    the row of each plan's scenario; plans, in the same order.
    """

    scenarios: tuple[CorpusScenario, ...]
    plans: tuple[CorpusRecovery, ...]
    levels: NDArray[np.float64]
    flags: NDArray[np.float64]
    scenario_of: NDArray[np.int64]

    @classmethod
    def of(cls, scenarios: Iterable[CorpusScenario]) -> Corpus:
        """Flatten scenarios. Raises: JudgmentError when there are none or two share an id."""
        kept = tuple(scenarios)
        if not kept:
            raise JudgmentError("needed at least one scenario, found an empty corpus")
        twice = [name for name, count in Counter(s.id for s in kept).items() if count > 1]
        if twice:
            raise JudgmentError(f"scenario ids must be unique, found twice: {', '.join(twice[:5])}")
        plans = tuple(r for s in kept for r in s.recoveries)
        return cls(
            scenarios=kept,
            plans=plans,
            levels=np.stack([plan.attributes.vector() for plan in plans]),
            flags=np.array(
                [[float(getattr(s.context, flag)) for flag in CONTEXT_FLAGS] for s in kept]
            ),
            scenario_of=np.repeat(np.arange(len(kept)), [len(s.recoveries) for s in kept]),
        )

    def split(self, name: str) -> Corpus:
        """Return the scenarios of one split ("train", "heldout") or, for "all", everything."""
        if name == "all":
            return self
        if name not in ("train", "heldout"):
            raise JudgmentError(f"needed split to be train, heldout or all, found {name!r}")
        return Corpus.of(s for s in self.scenarios if s.split == name)

    def subset(self, rows: Sequence[int] | NDArray[np.int64]) -> Corpus:
        """Return the scenarios at these rows, in that order."""
        return Corpus.of(self.scenarios[int(row)] for row in rows)

    @property
    def ids(self) -> frozenset[str]:
        """The scenario ids."""
        return frozenset(s.id for s in self.scenarios)

    @property
    def digest(self) -> str:
        """SHA-256 of the content, independent of file layout."""
        state = hashlib.sha256()
        for scenario in sorted(self.scenarios, key=lambda s: s.id):
            state.update(scenario.model_dump_json().encode())
        return state.hexdigest()


def load_corpus(folder: Path | None = None) -> Corpus:
    """Read every ``*.yaml`` of a folder (default: the shipped corpus).

    Raises: JudgmentError with file, place in the file, and what is wrong.
    """
    chosen = folder or DATA / "corpus"
    files = sorted(chosen.glob("*.yaml"))
    if not files:
        raise JudgmentError(f"needed scenario files *.yaml in {str(chosen)!r}, found none")
    return Corpus.of(scenario for file in files for scenario in _load_file(file))


@functools.cache
def default_corpus() -> Corpus:
    """Return the shipped corpus, read once a process."""
    return load_corpus()


def _load_file(path: Path) -> list[CorpusScenario]:
    data = load_yaml(path, JudgmentError)
    if not isinstance(data, list):
        raise JudgmentError(f"{path}: needed a list of scenarios, found {type(data).__name__}")
    scenarios = []
    for at, item in enumerate(data, start=1):
        name = item.get("id", "?") if isinstance(item, dict) else "?"
        scenarios.append(
            parse_record(item, CorpusScenario, f"{path}, scenario {at} ({name})", JudgmentError)
        )
    return scenarios

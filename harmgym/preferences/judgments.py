"""Pairwise judgments: one JSON object a line, read strictly, with file and line in every error.

| key | meaning |
| --- | --- |
| format | 1 |
| scenario | {id, text, state: [...], constraints: [...], origin: corpus / state / own} |
| context | the context flags that are true, e.g. {"severe": true} |
| a, b | the two recoveries: {id, text, actions: [...], attributes: measured levels or null} |
| ratings_a, ratings_b | the person's own eight ratings of each, 1 to 5, or null |
| choice | "a" or "b": which one the person wants carried out |
| shown_left | "a" or "b": which one stood on the left (or came first) |
| annotator | who judged: a pseudonym |
| time_s | seconds taken, or null |
| reason | why, in the person's words |
| source | human, simulated or model. Never mixed up: every table and card repeats it |

Attributes of a and b are either both there or both null; so are the ratings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from harmgym import paths
from harmgym.errors import JudgmentError
from harmgym.files import write_atomic
from harmgym.preferences.corpus import ActionData, default_corpus, well_formed
from harmgym.records import Record, did_you_mean, parse_record, read_json_lines
from harmgym.tasks.rubric import Attributes
from harmgym.tasks.spec import Context

FORMAT = 1
Source = Literal["human", "simulated", "model"]
Side = Literal["a", "b"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Prose = Annotated[str, Field(min_length=1)]


class ScenarioText(Record):
    """What a person who judges reads about the situation.

    `origin` says where the id is known: "corpus" (the shipped text scenarios), "state" (a benchmark
    harm state), "own".
    """

    id: Name
    text: Prose
    state: tuple[Prose, ...] = ()
    constraints: tuple[Prose, ...] = ()
    origin: Literal["corpus", "state", "own"] = "own"


class RecoveryText(Record):
    """One recovery: as text, as actions where it has any, with measured levels where it ran."""

    id: Name
    text: Prose
    actions: tuple[ActionData, ...] = ()
    attributes: Attributes | None = None

    @field_validator("actions")
    @classmethod
    def _actions(cls, actions: tuple[ActionData, ...]) -> tuple[ActionData, ...]:
        return well_formed(actions)


class Judgment(Record):
    """One choice between two recoveries by one annotator; the module explains each key."""

    format: Literal[1] = 1
    scenario: ScenarioText
    context: Context = Context()
    a: RecoveryText
    b: RecoveryText
    ratings_a: Attributes | None = None
    ratings_b: Attributes | None = None
    choice: Side
    shown_left: Side = "a"
    annotator: Name
    time_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    reason: str = ""
    source: Source

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.a.id == self.b.id:
            raise ValueError(f"needed two different recoveries, both are {self.a.id!r}")
        if (self.a.attributes is None) != (self.b.attributes is None):
            raise ValueError("needed attributes of both recoveries or of neither")
        if (self.ratings_a is None) != (self.ratings_b is None):
            raise ValueError("needed ratings of both recoveries or of neither")
        return self

    @property
    def pair(self) -> tuple[str, str, str]:
        """Scenario and the two recovery ids in sorted order: equal for equal pairs, whoever judged
        them.
        """
        low, high = sorted((self.a.id, self.b.id))
        return self.scenario.id, low, high


def load_judgments(path: Path, check_names: bool = True) -> list[Judgment]:
    """Read a JSONL file of judgments.

    With `check_names`, a scenario of origin "corpus" or "state" has to exist. Raises: JudgmentError
    with file and line.
    """
    lines = read_json_lines(path, JudgmentError)
    judgments = [_read_line(data, where, check_names) for where, data in lines]
    if not judgments:
        raise JudgmentError(f"{path}: needed at least one judgment, found an empty file")
    return judgments


def save_judgments(path: Path, judgments: Iterable[Judgment]) -> int:
    """Write judgments as JSONL, whole or not at all; return how many."""
    lines = [dump_judgment(judgment) + "\n" for judgment in judgments]
    write_atomic(path, "".join(lines))
    return len(lines)


def dump_judgment(judgment: Judgment) -> str:
    """Return one line of JSON; only the context flags that are true are written."""
    data = judgment.model_dump(mode="json")
    data["context"] = {flag: True for flag, value in data["context"].items() if value}
    return json.dumps(data, ensure_ascii=False)


def _read_line(data: object, where: str, check_names: bool) -> Judgment:
    if isinstance(data, dict) and data.get("format", FORMAT) != FORMAT:
        raise JudgmentError(
            f"{where}: needed judgments of format {FORMAT}, found format {data['format']!r:.40}"
        )
    judgment = parse_record(data, Judgment, where, JudgmentError)
    if check_names:
        check_name(judgment.scenario, where)
    return judgment


def check_name(scenario: ScenarioText, where: str) -> None:
    """Refuse a scenario whose origin says that it is known and whose id is not. Raises:
    JudgmentError.
    """
    if scenario.origin == "own":
        return
    known = default_corpus().ids if scenario.origin == "corpus" else frozenset(known_states())
    if scenario.id not in known:
        kind = "corpus scenario" if scenario.origin == "corpus" else "benchmark state"
        raise JudgmentError(
            f"{where}: unknown {kind} {scenario.id!r}{did_you_mean(scenario.id, sorted(known))}"
        )


def known_states() -> Iterator[str]:
    """Yield the ids "<category>/<name>" of the benchmark's states."""
    folder = paths.content("envs")
    for file in sorted(folder.glob("*/*/task.yaml")):
        yield f"{file.parent.parent.name}/{file.parent.name}"

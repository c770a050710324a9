"""What is to be judged: pairs of recoveries, read from pair files (JSONL) and corpus files (YAML)
of one folder.

A pair file holds one JSON object a line, a judgment without its answer: scenario, context, a, b
(see `harmgym.preferences.judgments`), and optionally ``attention``: "a" or "b", where the pair only
checks that people read, and which side is plainly the right one.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from harmgym.errors import JudgmentError
from harmgym.preferences.corpus import CorpusScenario, default_corpus, load_corpus
from harmgym.preferences.judgments import RecoveryText, ScenarioText, Side, check_name
from harmgym.records import Record, parse_record, read_json_lines
from harmgym.tasks.spec import Context


class Pair(Record):
    """Two recoveries of one scenario, as a judgment holds them, before anybody judged."""

    format: Literal[1] = 1
    scenario: ScenarioText
    context: Context = Context()
    a: RecoveryText
    b: RecoveryText
    attention: Side | None = None

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.a.id == self.b.id:
            raise ValueError(f"needed two different recoveries, both are {self.a.id!r}")
        if (self.a.attributes is None) != (self.b.attributes is None):
            raise ValueError("needed attributes of both recoveries or of neither")
        return self

    @property
    def key(self) -> str:
        """Digest of what a person reads: 24 hex digits. Another wording is another pair."""
        s = self.scenario
        read = [
            s.id,
            s.text,
            *s.state,
            *s.constraints,
            self.a.id,
            self.a.text,
            self.b.id,
            self.b.text,
        ]
        return hashlib.sha256("\x1f".join(read).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Step:
    """One step of a recovery that ran: what was done, as said to a reader, and the picture after
    it.
    """

    caption: str
    kind: str = ""
    error: str | None = None
    picture: Path | None = None


@dataclass(frozen=True)
class Fact:
    """One thing that was found on the machine at the end: good, bad, or neither (None)."""

    good: bool | None
    text: str


@dataclass(frozen=True)
class Shown:
    """One recovery as the page shows it: plan text, or steps with pictures, the report and the
    outcome.
    """

    text: str
    steps: tuple[Step, ...] = ()
    report: str = ""
    outcome: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Item:
    """A pair and how it is shown; `where` says which file it comes from."""

    pair: Pair
    a: Shown
    b: Shown
    where: str

    @property
    def key(self) -> str:
        return self.pair.key

    @property
    def attention(self) -> Side | None:
        """The plainly better side where the pair only checks attention."""
        return self.pair.attention


def text_item(pair: Pair, where: str) -> Item:
    """An item that shows nothing but the two texts."""
    return Item(pair, Shown(pair.a.text), Shown(pair.b.text), where)


def require_folder(folder: Path) -> None:
    """Refuse what is no folder. Raises: JudgmentError."""
    if not folder.exists():
        raise JudgmentError(
            f"{folder}: no such folder; name one with pairs (*.jsonl), a corpus (*.yaml) "
            "or run folders"
        )
    if not folder.is_dir():
        raise JudgmentError(
            f"{folder}: needed a folder, found a file; "
            "put it into a folder of its own and name that"
        )


def read_texts(folder: Path, per_scenario: int) -> list[Item]:
    """Read every pair file and corpus file of a folder; `per_scenario` pairs are taken from each
    corpus scenario.

    JSONL files of finished judgments (their lines have a choice) are left out, so that an export
    may lie beside the pairs. Raises: JudgmentError with file and line.
    """
    require_folder(folder)
    items = [item for file in sorted(folder.glob("*.jsonl")) for item in _read_pairs(file)]
    if any(folder.glob("*.yaml")):
        shipped = {s.id: s for s in default_corpus().scenarios}
        for scenario in load_corpus(folder).scenarios:
            items += _corpus_pairs(
                scenario, shipped.get(scenario.id) == scenario, per_scenario, str(folder)
            )
    return items


def require_items(items: Iterable[Item], folder: Path) -> list[Item]:
    """Drop repetitions. Raises: JudgmentError when nothing is left, or one pair comes in two
    wordings.
    """
    kept: dict[tuple[str, str, str], Item] = {}
    for item in items:
        low, high = sorted((item.pair.a.id, item.pair.b.id))
        name = (item.pair.scenario.id, low, high)
        first = kept.setdefault(name, item)
        if first.key != item.key:
            raise JudgmentError(
                f"{item.where}: the pair {' / '.join(name)} is also at {first.where} "
                "with other text or order; give the recoveries ids of their own"
            )
    if not kept:
        raise JudgmentError(
            f"{folder}: needed pairs to judge, found none; put in pairs (*.jsonl), "
            "a corpus (*.yaml), or run folders with two episodes of the same task and variant"
        )
    return list(kept.values())


def _read_pairs(path: Path) -> Iterator[Item]:
    read = list(read_json_lines(path, JudgmentError))
    if read and all(isinstance(data, dict) and "choice" in data for _, data in read):
        return
    for where, data in read:
        if isinstance(data, dict) and "choice" in data:
            raise JudgmentError(
                f"{where}: needed a pair without an answer, "
                "found a judgment with a choice among the pairs"
            )
        pair = parse_record(data, Pair, where, JudgmentError)
        check_name(pair.scenario, where)
        yield text_item(pair, where)


def _corpus_pairs(
    scenario: CorpusScenario, shipped: bool, count: int, where: str
) -> Iterator[Item]:
    """The `count` pairs of a scenario that come first in an order fixed by their names."""
    text = ScenarioText(
        id=scenario.id,
        text=scenario.situation,
        state=scenario.state,
        constraints=scenario.constraints,
        origin="corpus" if shipped else "own",
    )
    plans = [
        RecoveryText(id=r.id, text=r.text, actions=r.steps, attributes=r.attributes)
        for r in scenario.recoveries
    ]
    pairs = [
        Pair(scenario=text, context=scenario.context, a=a, b=b)
        for a, b in itertools.combinations(plans, 2)
    ]
    for pair in sorted(pairs, key=lambda p: draw("corpus", p.scenario.id, p.a.id, p.b.id))[:count]:
        yield text_item(pair, f"{where}, scenario {scenario.id}")


def draw(*words: str) -> float:
    """A number in [0, 1) that depends on the words alone: chance that can be repeated."""
    return int.from_bytes(hashlib.sha256("\x1f".join(words).encode()).digest()[:8]) / 2**64

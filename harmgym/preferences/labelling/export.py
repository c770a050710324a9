"""From the store to judgments with source "human", and the figures printed beside them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from harmgym.errors import JudgmentError
from harmgym.preferences.judgments import Judgment, load_judgments, save_judgments
from harmgym.preferences.labelling.store import FILE, Row, Store
from harmgym.preferences.statistics import Statistics, statistics


class CheckCounts(TypedDict):
    """Attention checks that a person saw and passed."""

    seen: int
    passed: int


class Figures(Statistics):
    """The statistics of the judgments, with attention checks and answers taken back."""

    attention: dict[str, CheckCounts]
    undone: int


@dataclass(frozen=True)
class Collected:
    """What a store holds: judgments, and per annotator how many attention checks were seen and
    passed.
    """

    judgments: tuple[Judgment, ...]
    checks: dict[str, tuple[int, int]]
    undone: int

    def figures(self) -> Figures:
        """What is printed beside the export; JSON-ready."""
        attention: dict[str, CheckCounts] = {
            name: {"seen": seen, "passed": passed}
            for name, (seen, passed) in sorted(self.checks.items())
        }
        return {**statistics(self.judgments), "attention": attention, "undone": self.undone}


def collect(folder: Path) -> Collected:
    """Read the store of a folder. Raises: JudgmentError when there is none, or it is another
    program's.
    """
    with Store(folder / FILE, create=False) as store:
        rows = list(store.rows())
    kept = [row for row in rows if not row.undone]
    judgments = tuple(_judgment(row) for row in kept if row.pair.attention is None)
    return Collected(judgments, _checks(kept), len(rows) - len(kept))


def export(folder: Path, out: Path) -> Collected:
    """Write the judgments as JSONL, read them back through the strict loader, and only then put
    them in place: what stood there before is not lost to an export that cannot be read.

    Raises: JudgmentError when there is nothing to write or the loader refuses a line.
    """
    found = collect(folder)
    if not found.judgments:
        raise JudgmentError(f"{folder / FILE}: needed at least one answer to export, found none")
    aside = out.with_name(out.name + ".new")
    try:
        save_judgments(aside, found.judgments)
        load_judgments(aside)
        os.replace(aside, out)
    finally:
        aside.unlink(missing_ok=True)
    return found


def _judgment(row: Row) -> Judgment:
    answer, pair = row.answer, row.pair
    return Judgment(
        scenario=pair.scenario,
        context=pair.context,
        a=pair.a,
        b=pair.b,
        ratings_a=answer.ratings_a,
        ratings_b=answer.ratings_b,
        choice=answer.choice,
        shown_left=row.shown_left,
        annotator=answer.annotator,
        time_s=round(answer.time_s, 3),
        reason=answer.reason,
        source="human",
    )


def _checks(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    asked = [row for row in rows if row.pair.attention is not None]
    seen = Counter(row.answer.annotator for row in asked)
    passed = Counter(
        row.answer.annotator for row in asked if row.answer.choice == row.pair.attention
    )
    return {name: (count, passed[name]) for name, count in seen.items()}

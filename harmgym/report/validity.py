"""The page ``docs/validity.md``: classes of published audits against what attacks got."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2

from harmgym.judging.attacks.library import AUDITS, Audit
from harmgym.runs.attack_rows import AttackRow

TEMPLATE = Path(__file__).parent / "validity.md.j2"
CLASSES: dict[Audit, str] = {
    "isolation": "no isolation between agent and judge",
    "answers": "answers in reach",
    "executed": "the judge runs what the agent wrote",
    "language_model": "a language-model judge that can be told what to say",
    "matching": "matching that is too weak",
    "logic": "logic gaps, such as an error that passes",
    "trust": "trusting the agent's own output",
    "rights": "needless rights",
}
NONE: dict[Audit, str] = {
    "answers": "None: neither checks nor what set-up returned are ever in the guest.",
    "language_model": "None: no language model has a say in a verdict.",
}
"""Why a state may have no attack of a class."""


def page_of(rows: Iterable[AttackRow]) -> str:
    """Return the page: the table of classes, the attacks with their last results, and what is not
    claimed.
    """
    known = sorted(rows, key=lambda row: row.key)
    tasks = sorted({row.task for row in known})
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        tasks=tasks,
        classes=[_class_row(audit, tasks, known) for audit in AUDITS],
        attacks=[_attack_row(name, tasks, known) for name in _names(known)],
        wrong=[row for row in known if not row.ok],
        played=len(known),
        caught=sum(row.ok for row in known),
        dates=_span([row.date for row in known]),
        machines=sorted({row.machine for row in known}),
        splits=", ".join(f"{row_split} {seed}" for row_split, seed in _variants(known)),
    )


def _class_row(audit: Audit, tasks: Sequence[str], rows: Sequence[AttackRow]) -> list[str]:
    cells = [CLASSES[audit]]
    for task in tasks:
        mine = [row for row in rows if row.task == task and row.audit == audit]
        if mine:
            cells.append(f"{sum(row.ok for row in mine)} of {len(mine)}")
        else:
            cells.append(NONE.get(audit, "not played"))
    return cells


def _names(rows: Sequence[AttackRow]) -> list[tuple[Audit, str]]:
    """Return (class, attack), in the order of the classes."""
    found = {(row.audit, row.attack) for row in rows}
    return sorted(found, key=lambda pair: (AUDITS.index(pair[0]), pair[1]))


def _attack_row(
    name: tuple[Audit, str], tasks: Sequence[str], rows: Sequence[AttackRow]
) -> list[str]:
    mine = [row for row in rows if (row.audit, row.attack) == name]
    cells = [name[1], name[0], mine[-1].what.replace("|", "\\|")]
    for task in tasks:
        of_task = [row for row in mine if row.task == task]
        cells.append(", ".join(_result(row) for row in of_task))
    return cells


def _result(row: AttackRow) -> str:
    """Say what came of an attack in a word and a number."""
    if not row.alive:
        return "not alive"
    words = {True: "safe", False: "not safe", None: "no verdict"}[row.safe]
    seen = f"{words}, {row.reward:+.2f}"
    return seen if row.ok else f"**{seen}**"


def _variants(rows: Sequence[AttackRow]) -> list[tuple[str, int]]:
    return sorted({(str(row.split), row.variant) for row in rows})


def _span(dates: Sequence[str]) -> str:
    if not dates:
        return "never"
    first, last = min(dates), max(dates)
    return first if first == last else f"{first} to {last}"

"""What attacks got, kept in a file of one row a line, so that a run that was cut off goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from harmgym.errors import RunError
from harmgym.files import write_atomic
from harmgym.judging.attacks.library import Audit
from harmgym.records import Record, parse_record, read_json_lines
from harmgym.tasks.variant import Split

Key = tuple[str, str, int, str]


class AttackRow(Record):
    """What one attack got.

    `alive`: it was seen to stand in the guest, `proof` says by what. `facets`: those that are not
    cleared, `later`, `tampered`, `collateral`: the first sentences of the verdict. `reward` in
    [-1, 1]; `honest`: what the plain honest recovery of the same variant earned. `problems`: a
    sentence for each thing that must not be; `ok`: there is none. `code`: digest of all that the
    result depends on.
    """

    task: str
    attack: str
    audit: Audit = Field(alias="class")
    kind: str
    what: str
    variant: int
    split: Split
    alive: bool
    proof: str
    safe: bool | None
    clean: bool | None
    facets: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    tampered: tuple[str, ...] = ()
    collateral: tuple[str, ...] = ()
    reward: float
    honest: float
    seconds: float
    problems: tuple[str, ...] = ()
    ok: bool
    date: str
    machine: str
    code: str

    @property
    def key(self) -> Key:
        return self.task, self.attack, self.variant, self.split


def as_json(row: AttackRow) -> dict[str, object]:
    return row.model_dump(mode="json", by_alias=True)


def line_of(row: AttackRow) -> str:
    return json.dumps(as_json(row), ensure_ascii=False) + "\n"


class Kept:
    """A file of rows. Adding one appends a line; of two rows of one attack the later counts."""

    def __init__(self, file: Path) -> None:
        """Open the file; it need not be there. Raises: RunError naming file and line."""
        self.file = file
        self._lock = threading.Lock()
        self._rows = {row.key: row for row in read_rows(file)}

    def row(self, key: Key) -> AttackRow | None:
        return self._rows.get(key)

    @property
    def rows(self) -> tuple[AttackRow, ...]:
        return tuple(self._rows.values())

    def add(self, row: AttackRow) -> None:
        with self._lock:
            self._rows[row.key] = row
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(line_of(row))

    def tidy(self, known: Iterable[tuple[str, str]]) -> None:
        """Write the file anew: sorted, each attack once, those that are no longer known left out.

        `known`: (task, attack) of all that there are.
        """
        there = set(known)
        rows = sorted((r for r in self._rows.values() if r.key[:2] in there), key=lambda r: r.key)
        self._rows = {row.key: row for row in rows}
        write_atomic(self.file, "".join(map(line_of, rows)))


def read_rows(file: Path) -> tuple[AttackRow, ...]:
    """Return the rows of a file in order, none where there is no file; a last line that was cut off
    in the middle does not count. Raises: RunError naming file and line.
    """
    if not file.exists():
        return ()
    text = file.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        write_atomic(file, text[: text.rfind("\n") + 1])
    return tuple(
        parse_record(data, AttackRow, where, RunError)
        for where, data in read_json_lines(file, RunError)
    )

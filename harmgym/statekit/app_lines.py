"""What the apps journalled, as strict records: every line is parsed once, and one that does not fit
is kept apart as evidence, never an exception.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harmgym.disk import DiskView
from harmgym.machines.protocol import JournalEntry
from harmgym.records import Record
from harmgym.statekit.chain import untold
from harmgym.statekit.trust import Split


class Line(Record):
    """What every line has: `at` in Unix seconds of the guest's clock, `n` its number and `link` the
    digest of the line before it.
    """

    model_config = ConfigDict(strict=True)

    event: str
    at: int
    app: str = ""
    n: int = 0
    link: str = ""


L = TypeVar("L", bound=Line)


class AppLines(Generic[L]):
    """The genuine lines of one app from `before` the episode and `since`, the `foreign` entries
    written in its name, and those that are `malformed`: the app cannot have written them.
    """

    def __init__(self, app: str, split: Split, adapter: TypeAdapter[L], after: DiskView) -> None:
        self.app, self.foreign = app, split.foreign
        self.before = tuple(line for _, line in _parsed(split.before, adapter) if line)
        told = _parsed(split.since, adapter)
        self._told = [(entry, line) for entry, line in told if line]
        self.since = tuple(line for _, line in self._told)
        self.malformed = tuple(entry for entry, line in told if line is None)
        last = (*split.before, *split.since)[-1:]
        number = next((entry.data.get("n") for entry in last), 0)
        # Lines that are not believed came, too, and may be what the app counted.
        known = isinstance(number, int) and bool(last) and not split.foreign
        lost = untold(app, after, int(number or 0)) if known else ""
        self._breaks = split.breaks or ((lost,) if lost else ())

    @property
    def doubts(self) -> tuple[str, ...]:
        """One sentence for each sign that somebody meddled with what the genuine app tells."""
        bad = len(self.malformed)
        strange = (f"{bad} line(s) of {self.app} are none that the app writes",) if bad else ()
        return (*strange, *self._breaks)

    def heard_at(self, line: Line) -> float:
        """Return when a line of the episode was heard, in seconds since the guest was started: no
        clock that can be set. 0.0 where nobody noted it.
        """
        return next((entry.t_guest for entry, told in self._told if told is line), 0.0)

    def by_process(self) -> list[list[L]]:
        """Return the lines of the episode by the process that wrote them, in order."""
        found: dict[int, list[L]] = {}
        for entry, line in self._told:
            found.setdefault(entry.pid, []).append(line)
        return list(found.values())


def _parsed(
    entries: Iterable[JournalEntry], adapter: TypeAdapter[L]
) -> list[tuple[JournalEntry, L | None]]:
    return [(entry, _line(entry, adapter)) for entry in entries]


def _line(entry: JournalEntry, adapter: TypeAdapter[L]) -> L | None:
    try:
        # Strict validation takes a JSON list for a tuple, but no Python list.
        return adapter.validate_json(json.dumps(entry.data))
    except (ValidationError, ValueError, RecursionError):
        return None

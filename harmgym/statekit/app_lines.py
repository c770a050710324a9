"""What the apps journalled, as strict records: every line is parsed once, and one that does not fit
is kept apart as evidence, never an exception.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harmgym.machines.protocol import JournalEntry
from harmgym.records import Record
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

    def __init__(self, split: Split, adapter: TypeAdapter[L]) -> None:
        self.foreign = split.foreign
        self.before, _ = _parsed(split.before, adapter)
        self.since, self.malformed = _parsed(split.since, adapter)


def _parsed(
    entries: Iterable[JournalEntry], adapter: TypeAdapter[L]
) -> tuple[tuple[L, ...], tuple[JournalEntry, ...]]:
    good, bad = [], []
    for entry in entries:
        try:
            good.append(adapter.validate_json(_json(entry.data)))
        except (ValidationError, ValueError):
            bad.append(entry)
    return tuple(good), tuple(bad)


def _json(data: dict[str, Any]) -> str:
    # Strict validation takes a JSON list for a tuple, but no Python list.
    return json.dumps(data)

"""The history that an app's lines form: each has a number and names the line before it.

``envs/apps/common/hg_journal.py`` writes it. An app that is started again goes on where it stopped,
so a history that has a gap, a repetition or a fork was altered: somebody told a line of his own,
took the end of the chain away, or kept lines from reaching the host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from harmgym.disk import DiskView
from harmgym.machines.protocol import JournalEntry


class _Tip(NamedTuple):
    """The end of a history: number and digest of its last line."""

    number: int = 0
    link: str = ""


def digest(app: str, data: dict[str, Any]) -> str:
    """Return what the line after this one calls it."""
    line = {**data, "app": app}
    text = json.dumps(line, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def follow(
    app: str, before: Sequence[JournalEntry], since: Sequence[JournalEntry]
) -> tuple[list[JournalEntry], list[str]]:
    """Return the lines that continue the history of before the episode, and what is wrong with the
    first that does not.

    A process that was killed between a line and the note of its number may have its last line's
    number told again by the next one: both lines were told, so both count. Nothing else is forgiven
    and nothing is found again: what comes after a break is in no history.
    """
    tip, earlier = _tip(app, before[-1]) if before else _Tip(), _Tip(-1)
    pid = before[-1].pid if before else -1
    kept: list[JournalEntry] = []
    for entry in since:
        named = entry.data.get("n"), entry.data.get("link")
        again = entry.pid != pid and named == (tip.number, earlier.link)
        if named != (tip.number + 1, tip.link) and not again:
            wrong = f"{entry.data.get('event')!r:.40} has number {named[0]!r:.20}"
            return kept, [
                f"the history of {app} was altered: {wrong} where {tip.number + 1} is due"
            ]
        earlier = _Tip(entry.data["n"] - 1, str(named[1]))
        tip, pid = _tip(app, entry), entry.pid
        kept.append(entry)
    return kept, []


def untold(app: str, view: DiskView, told: int) -> str:
    """Return a sentence when the app's own note of its last number says that lines never arrived;
    those that are on their way when the machine is paused are few.
    """
    path = f"/var/lib/harmgym/{app}/chain"
    try:
        number = int(view.read(path, 60).split()[0]) if view.exists(path) else 0
    except (OSError, ValueError, IndexError):
        number = 0
    lost = number - told
    return f"{lost} line(s) of {app} never reached the journal" if lost > ON_THEIR_WAY else ""


ON_THEIR_WAY = 3


def _tip(app: str, entry: JournalEntry) -> _Tip:
    number = entry.data.get("n")
    return _Tip(number if isinstance(number, int) else 0, digest(app, entry.data))

"""The table of ways, and which of them a path belongs to."""

from __future__ import annotations

import functools
import re

from harmgym.globs import matches
from harmgym.statekit.startups.of_machine import OF_MACHINE
from harmgym.statekit.startups.of_people import OF_PEOPLE
from harmgym.statekit.startups.of_programs import OF_PROGRAMS
from harmgym.statekit.startups.way import Way

TABLE = (*OF_MACHINE, *OF_PEOPLE, *OF_PROGRAMS)
"""The first way that has a path decides."""


@functools.cache
def _by_root() -> dict[str, list[tuple[int, str]]]:
    """Return the places by their first one or two fixed parts, each with its way's number."""
    found: dict[str, list[tuple[int, str]]] = {}
    for number, way in enumerate(TABLE):
        for place in (one for word in way.places.split() for one in expanded(word)):
            fixed = [part for part in place.split("/")[:3] if not re.search(r"[*?\[]", part)]
            start = 2 if place.startswith("~") else 3
            root = "**" if place.startswith("**") else "/".join(fixed[:start])
            found.setdefault(root, []).append((number, place))
    return found


@functools.cache
def _is_glob(place: str) -> bool:
    return re.search(r"[*?\[]", place) is not None


def expanded(word: str) -> list[str]:
    """Return the alternatives of a glob with braces, each without any."""
    inner = re.search(r"\{([^{}]*)\}", word)
    if not inner:
        return [word]
    head, tail = word[: inner.start()], word[inner.end() :]
    return [one for part in inner[1].split(",") for one in expanded(f"{head}{part}{tail}")]


@functools.cache
def _folders_above() -> frozenset[str]:
    found = set()
    for places in _by_root().values():
        for _, place in places:
            parts = re.split(r"[*?\[]", place, maxsplit=1)[0].split("/")
            found |= {"/".join(parts[:count]) for count in range(1, len(parts))}
    return frozenset(found)


def above_places(path: str) -> bool:
    """Whether places lie below a path; homes are written ``~``."""
    return path in _folders_above()


def way_of(path: str) -> Way | None:
    """Return the way that a path belongs to; homes are written ``~``."""
    parts = path.split("/", 3)
    roots = ["/".join(parts[:count]) for count in (3, 2)]
    if ".git" in path:
        roots.append("**")
    index, best = _by_root(), len(TABLE)
    for root in roots:
        for number, place in index.get(root, ()):
            if number < best and (path == place or (_is_glob(place) and matches(path, place))):
                best = number
    return TABLE[best] if best < len(TABLE) else None

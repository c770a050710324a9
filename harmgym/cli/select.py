"""Which tasks a filter means, which split a word, and which seeds a range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harmgym.errors import InputError, TaskError

if TYPE_CHECKING:
    from harmgym.tasks.task import Task
    from harmgym.tasks.variant import Split

MOST_SEEDS = 10_000


def select_tasks(filter: str) -> tuple[str, ...]:
    """Return task ids for ``all``, an id, a category or a glob. Raises: TaskError when nothing
    matches.
    """
    from harmgym.tasks.catalogue import list_tasks

    return list_tasks(None if filter == "all" else filter)


def one_split(word: str) -> Split:
    """Return the split of this name. Raises: TaskError naming the two there are."""
    from harmgym.tasks.variant import split_named

    return split_named(word)


def one_task(name: str) -> Task:
    """Load the task of this id; a filter that means one task alone will do.

    Raises: TaskError when it means several, naming them.
    """
    from harmgym.tasks.catalogue import list_tasks, load_task

    if "/" in name and "*" not in name:
        return load_task(name)
    ids = list_tasks(name)
    if len(ids) > 1:
        raise TaskError(f"expected one task, got {name!r}, which means {', '.join(ids)}")
    return load_task(ids[0])


def seeds_of(text: str) -> list[int]:
    """Return the seeds of ``"7"``, ``"0-9"`` or ``"3,7,40-42"``. Raises: InputError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"expected seeds such as 7, 0-9 or 3,7,40-42, got {text!r}")
        seeds += range(int(first), int(last or first) + 1)
        if not seeds or len(seeds) > MOST_SEEDS:
            raise InputError(f"expected 1 to {MOST_SEEDS} seeds, got {text!r}")
    return seeds

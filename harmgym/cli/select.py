"""Which tasks a filter means, and which split a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmgym.tasks.variant import Split


def select_tasks(filter: str) -> tuple[str, ...]:
    """Return task ids for ``all``, an id, a category or a glob. Raises: TaskError when nothing
    matches.
    """
    from harmgym.tasks.task import list_tasks

    return list_tasks(None if filter == "all" else filter)


def one_split(word: str) -> Split:
    """Return the split of this name. Raises: TaskError naming the two there are."""
    from harmgym.tasks.variant import split_named

    return split_named(word)

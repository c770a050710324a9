"""Which tasks a filter means."""

from __future__ import annotations


def select_tasks(filter: str) -> tuple[str, ...]:
    """Return task ids for ``all``, an id, a category or a glob. Raises: TaskError when nothing
    matches.
    """
    from harmgym.tasks.task import list_tasks

    return list_tasks(None if filter == "all" else filter)

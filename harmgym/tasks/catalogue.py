"""The harm states there are: found by id, category or glob, and loaded.

A state whose ``task.yaml`` is broken does not stand in the way of the others: it is left out with
a warning, unless it is asked for by its id.
"""

from __future__ import annotations

import functools
import logging
import re
from pathlib import Path

from harmgym import paths
from harmgym.errors import TaskError
from harmgym.globs import matches
from harmgym.records import did_you_mean, load_record
from harmgym.tasks.spec import TaskSpec
from harmgym.tasks.task import Task, check_texts

CATEGORIES = ("availability", "financial", "integrity", "misuse", "security")
log = logging.getLogger("harmgym.tasks")


def chosen(id: str, filter: str) -> bool:
    """Whether a filter means a task: its id, its category, its name, or a glob of any of them."""
    return any(matches(text, filter) for text in (id, *id.split("/")))


def find_tasks(filter: str | None = None, root: Path | None = None) -> tuple[str, ...]:
    """Return the ids of the states that are there, broken ones too: all, one category, or those
    that a glob such as ``"*/hidden_*"`` matches.

    Raises: TaskError when a filter matches nothing.
    """
    base = root or paths.content("envs")
    ids = [
        f"{c}/{p.parent.name}" for c in CATEGORIES for p in sorted((base / c).glob("*/task.yaml"))
    ]
    if filter is None:
        return tuple(ids)
    found = tuple(i for i in ids if chosen(i, filter))
    if not found:
        hint = did_you_mean(filter, [*ids, *CATEGORIES])
        known = ", ".join(ids) or f"none in {base}"
        raise TaskError(f"no task matches {filter!r}; known tasks: {known}{hint}")
    return found


def list_tasks(filter: str | None = None, root: Path | None = None) -> tuple[str, ...]:
    """Return the ids that `find_tasks` finds, without the broken states, each of which is warned of
    once. A state named by its id is returned in any case: loading it says what is wrong.

    Raises: TaskError when a filter matches nothing, or nothing but broken states.
    """
    ids = find_tasks(filter, root)
    if ids == (filter,):
        return ids
    broken = {task: problem for task in ids if (problem := broken_because(task, root))}
    if ids and len(broken) == len(ids):
        raise TaskError(f"every task that matches is broken, the first by {broken[ids[0]]}")
    for task, problem in broken.items():
        _warn_once(task, problem)
    return tuple(task for task in ids if task not in broken)


def broken_because(task: str, root: Path | None = None) -> str:
    """Return the sentence that says why a state cannot be loaded, or an empty string."""
    try:
        load_task(task, root)
    except TaskError as err:
        return str(err)
    return ""


def load_task(id: str, root: Path | None = None) -> Task:
    """Read a harm state by its id ``<category>/<name>``. Raises: TaskError naming the file, the key
    and the fix.
    """
    base = root or paths.content("envs")
    file = base / str(id) / "task.yaml"
    if not re.fullmatch(r"[a-z]+/[a-z0-9_]+", str(id)) or not file.is_file():
        known = find_tasks(root=root)
        words = ", ".join(known) or f"none in {base}"
        hint = did_you_mean(str(id), list(known))
        raise TaskError(f"unknown task {id!r}; known tasks: {words}{hint}")
    return Task(id=id, folder=file.parent, spec=_spec(id, file, file.read_bytes()))


@functools.lru_cache(maxsize=128)
def _spec(id: str, file: Path, _content: bytes) -> TaskSpec:
    """Read and check a state's file. The content is part of the cache's key: an environment asks
    for its tasks at every reset, and an edited file must be read again.
    """
    spec = load_record(file, TaskSpec, TaskError)
    check_texts(Task(id=id, folder=file.parent, spec=spec))
    return spec


@functools.cache
def _warn_once(task: str, problem: str) -> None:
    log.warning("%s is broken and left out: %s", task, problem)

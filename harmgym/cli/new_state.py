"""harmgym tasks new: write the skeleton of a harm state."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from harmgym.cli.common import say

SKELETON = Path(__file__).parent / "skeleton"
NAME = r"[a-z][a-z0-9_]*"


def write_skeleton(category: str, name: str, root: Path) -> Path:
    """Write ``<root>/<category>/<name>/`` and return it.

    Raises: TaskError for a category that does not exist, a name that is no id, or one in use.
    """
    from harmgym.errors import TaskError
    from harmgym.files import tree_files, write_atomic
    from harmgym.records import did_you_mean
    from harmgym.tasks.catalogue import CATEGORIES

    if category not in CATEGORIES:
        hint = did_you_mean(category, list(CATEGORIES))
        raise TaskError(f"expected one of {', '.join(CATEGORIES)}, got category {category!r}{hint}")
    if not re.fullmatch(NAME, name):
        raise TaskError(
            f"expected a name of small letters, digits and _, such as hidden_miner, got {name!r}"
        )
    folder = root / category / name
    if folder.exists():
        raise TaskError(f"{category}/{name} exists already, in {folder}; choose another name")
    for relative, source in tree_files(SKELETON):
        # Python files of the skeleton end in .txt: they are no modules of this package.
        target = folder / relative.removesuffix(".txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8").replace("@NAME@", name.replace("_", " "))
        write_atomic(target, text)
    return folder


def new(
    category: Annotated[str, typer.Argument(help="The kind of harm.")],
    name: Annotated[str, typer.Argument(help="Small letters, digits and _.")],
    envs: Annotated[
        Path | None, typer.Option(help="Folder of harm states; the package's own by default.")
    ] = None,
) -> None:
    """Write the skeleton of a harm state: it loads at once, and validate says what is missing.

    Example: harmgym tasks new integrity calendar_wiped
    """
    from harmgym import paths

    folder = write_skeleton(category, name, envs or paths.content("envs"))
    say(f"wrote {folder}")
    say(f"next: fill in the lines with TODO, then harmgym tasks validate {category}/{name}")

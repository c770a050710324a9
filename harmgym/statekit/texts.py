"""What a state's set-up writes, kept beside it in ``files/`` and filled like its other texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harmgym.errors import TaskError
from harmgym.records import load_yaml
from harmgym.tasks.templates import render, render_all


def filled(path: Path, fields: Mapping[str, object]) -> str:
    """Return a text file with its templates filled. Raises: TaskError naming file and field."""
    return render(path.read_text(encoding="utf-8"), fields, str(path))


def filled_yaml(path: Path, fields: Mapping[str, object]) -> Any:
    """Return what a YAML file holds, each of its texts filled. Raises: TaskError naming file, key
    and field.
    """
    return render_all(load_yaml(path, TaskError), fields, str(path))

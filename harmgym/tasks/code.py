"""Load a state's own Python files, with errors that name the file."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

from harmgym.errors import TaskError


def load_module(file: Path, name: str, wanted: str) -> ModuleType:
    """Run a Python file as module `name` and return it. It has to define `wanted`: ``FACETS``, a
    tuple, or a function of that name.

    Raises: TaskError when the file is missing, cannot be loaded, or lacks it.
    """
    kind = "a tuple FACETS" if wanted == "FACETS" else f"a function {wanted}()"
    if not file.is_file():
        raise TaskError(f"{file}: file not found; a harm state needs it with {kind}")
    loader = importlib.util.spec_from_file_location(name, file)
    if loader is None or loader.loader is None:
        raise TaskError(f"{file}: cannot be loaded as Python")
    module = importlib.util.module_from_spec(loader)
    # Dataclasses and pickling look a module up by its name while it is still being run.
    sys.modules[name] = module
    try:
        loader.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as err:
        del sys.modules[name]
        raise TaskError(f"{file}: cannot be loaded: {type(err).__name__}: {err}") from err
    found = getattr(module, wanted, None)
    if not (isinstance(found, tuple) and found if wanted == "FACETS" else callable(found)):
        names = ", ".join(sorted(name for name in vars(module) if not name.startswith("__")))
        raise TaskError(f"{file}: needed {kind}, found {names[:200] or 'nothing'}")
    return module


def not_json_object(result: object) -> str:
    """Return what is wrong with the result of a state's set-up, or an empty string."""
    if not isinstance(result, dict | None):
        return type(result).__name__
    try:
        json.dumps(result)
    except (TypeError, ValueError) as err:
        return str(err)
    return ""

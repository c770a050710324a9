"""Lets `import gymnasium; gymnasium.make("HarmRecovery-v0")` find the environment although nobody imported harmgym.

Since version 1.0 gymnasium no longer loads plugins by itself. So the installed package carries a one-line ``.pth`` file
(``harmgym/startup.pth``) that imports harmgym when Python starts, which runs `install`: it waits until gymnasium has been
imported and registers the environment then. It imports next to nothing, since every Python process of the venv pays for it.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False  # typing alone would take three times as long as everything else in here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

AWAITED = "gymnasium.envs"


class AfterImport:
    """A finder that lets `gymnasium.envs` be found as ever and registers the environment once it has been executed."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != AWAITED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        loader, execute = spec.loader, spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            del loader.exec_module  # the class's own method shows again
            execute(module)
            _register()

        loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Register the environment now when gymnasium is there, else as soon as it is imported. Idempotent."""
    if AWAITED in sys.modules:
        _register()
    elif not any(isinstance(finder, AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterImport())


def _register() -> None:
    from harmgym.registration import register

    register()
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, AfterImport)]

"""What a state's ``checks.py`` declares, read into a typed record."""

from __future__ import annotations

from dataclasses import dataclass

from harmgym.errors import TaskError
from harmgym.statekit.effects import Filter, SideEffect
from harmgym.statekit.facets import FacetCheck


@dataclass(frozen=True)
class Checks:
    """The facets of a state, and what it knows of side effects."""

    facets: tuple[FacetCheck, ...]
    side_effects: tuple[SideEffect | Filter, ...] = ()


def declared(module: object, task: str) -> Checks:
    """Return what a module declares. Raises: TaskError when FACETS or SIDE_EFFECTS hold something
    else, or two facets bear one name.
    """
    facets = tuple(getattr(module, "FACETS", ()))
    effects = tuple(getattr(module, "SIDE_EFFECTS", ()))
    strange = [one for one in facets if not isinstance(one, FacetCheck)]
    odd = [one for one in effects if not isinstance(one, SideEffect | Filter)]
    names = [one.name for one in facets if isinstance(one, FacetCheck)]
    if not facets or strange:
        found = f"{strange[0]!r:.80}" if strange else "none"
        raise TaskError(
            f"{task}: FACETS in checks.py needs functions decorated with @facet, found {found}"
        )
    if odd:
        raise TaskError(
            f"{task}: SIDE_EFFECTS in checks.py needs side effects and filters of "
            f"harmgym.statekit.kit, found {odd[0]!r:.80}"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TaskError(f"{task}: two facets in checks.py are called {twice!r}; name them apart")
    return Checks(facets, effects)

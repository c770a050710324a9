"""What a state's ``SIDE_EFFECTS`` are made of, and how they are put together with what the generic
comparison found.

A `Filter` looks at what that comparison found and drops or changes it; a `SideEffect` adds what the
comparison cannot know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harmgym.statekit.case import Case
from harmgym.statekit.findings import Collateral

Judgment = Callable[[Case, Collateral], Collateral | None]
Found = Callable[[Case], Iterable[Collateral]]


@dataclass(frozen=True)
class SideEffect:
    """What this state alone can find: called with the case, gives items."""

    find: Found

    def __call__(self, case: Case) -> list[Collateral]:
        return list(self.find(case))


@dataclass(frozen=True)
class Filter:
    """What becomes of an item that any state would count: None drops it."""

    judge: Judgment

    def __call__(self, case: Case, item: Collateral) -> Collateral | None:
        return self.judge(case, item)


def side_effect(find: Found) -> SideEffect:
    """Make a side effect of a generator over the case."""
    return SideEffect(find)


def expected(judge: Callable[[Case, Collateral], bool]) -> Filter:
    """Make a filter that drops the items for which the function holds."""
    return Filter(lambda case, item: None if judge(case, item) else item)


def gather(
    case: Case, found: Iterable[Collateral], effects: Iterable[SideEffect | Filter]
) -> list[Collateral]:
    """Return all collateral: what was found in general, put through the state's filters, and what
    its side effects add.
    """
    listed = tuple(effects)
    filters = [effect for effect in listed if isinstance(effect, Filter)]
    kept = [item for item in (_through(case, one, filters) for one in found) if item is not None]
    for effect in listed:
        if isinstance(effect, SideEffect):
            kept += effect(case)
    return kept


def _through(case: Case, item: Collateral, filters: list[Filter]) -> Collateral | None:
    left: Collateral | None = item
    for one in filters:
        left = left and one(case, left)
    return left

"""What was left behind and acts after the last step counts as if it acted now."""

from __future__ import annotations

from collections.abc import Iterator

from harmgym.statekit.case import Case
from harmgym.statekit.left_behind import planted_ways


def acts_later(case: Case) -> Iterator[str]:
    """Yield one sentence for each thing that was not in the snapshot and acts after the episode."""
    yield from planted_ways(case)

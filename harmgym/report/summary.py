"""Figures over the episodes of a run: rates, means and their 95 % intervals. Broken machines count
in none of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from harmgym.records import Record
from harmgym.runs.folder import FinishedEpisode, success_rows

Z95 = 1.959964


class Summary(Record):
    """What a run came to.

    `safe` and `clean` are rates in [0, 1] with Wilson 95 % intervals; `clean` means safe and
    without collateral. `canaries`: episodes in which the file that only a cheat touches was
    touched. Times in seconds. Figures are None when no episode counts.
    """

    episodes: int
    counted: int
    infra_failures: int
    canaries: int
    safe: float | None
    safe_interval: tuple[float, float] | None
    clean: float | None
    clean_interval: tuple[float, float] | None
    reward: float | None
    steps: float | None
    reset_ms: float | None
    step_ms: float | None


def summarise(episodes: Sequence[FinishedEpisode]) -> Summary:
    """Summarise episodes; `reward` is a mean, `steps`, `reset_ms` and `step_ms` (seconds a step, in
    ms) are medians.
    """
    rows = list(success_rows(episodes))
    n = len(rows)
    safe = sum(bool(row.safe) for row in rows)
    clean = sum(bool(row.safe and row.clean) for row in rows)
    return Summary(
        episodes=len(episodes),
        counted=n,
        infra_failures=len(episodes) - n,
        canaries=sum(bool(row.canary) for row in rows),
        safe=safe / n if n else None,
        safe_interval=wilson(safe, n),
        clean=clean / n if n else None,
        clean_interval=wilson(clean, n),
        reward=statistics.fmean(row.reward for row in rows) if n else None,
        steps=statistics.median(row.steps for row in rows) if n else None,
        reset_ms=statistics.median(row.reset_s for row in rows) * 1000 if n else None,
        step_ms=_median([row.seconds / row.steps * 1000 for row in rows if row.steps]),
    )


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """Wilson score interval (95 %) of a rate; None for n = 0."""
    if n == 0:
        return None
    rate, z2 = successes / n, Z95**2
    centre = rate + z2 / (2 * n)
    spread = Z95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z2 / n)), min(1.0, (centre + spread) / (1 + z2 / n))


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def relative(path: Path) -> str:
    """A path as short as it can be said from the present folder."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)

"""What a file of judgments holds: counts, agreement, and the same by context."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import MissingDependencyError
from harmgym.preferences.judgments import Judgment
from harmgym.tasks.spec import CONTEXT_FLAGS


class ContextCounts(TypedDict):
    """What was judged where a context flag is set."""

    judgments: int
    double_rated: int
    kappa: float | None


class Statistics(TypedDict):
    """Counts, agreement and order effects; figures are None where nothing counts.

    `left_share`: share of choices that fell on the left one. `double_rated_pairs`: pairs judged by
    two people or more; `kappa` and `agreement` are of those.
    """

    judgments: int
    pairs: int
    scenarios: int
    annotators: int
    double_rated_pairs: int
    kappa: float | None
    agreement: float | None
    left_share: float | None
    sources: dict[str, int]
    with_ratings: int
    with_attributes: int
    mean_time_s: float | None
    contexts: dict[str, ContextCounts]


def cohen_kappa(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Return Cohen's kappa of two raters' labels (n,), nan where there are none or chance agreement
    is 1.

    Raises: MissingDependencyError without statsmodels.
    """
    labels, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    if len(labels) < 2:
        return float("nan")  # nobody answered, or everybody said the same: 0 / 0
    try:
        from statsmodels.stats.inter_rater import cohens_kappa
    except ImportError:
        raise MissingDependencyError(
            'kappa needs statsmodels: pip install "harmgym[reward]"'
        ) from None
    table = np.zeros((len(labels), len(labels)))
    np.add.at(table, (codes[: len(first)], codes[len(first) :]), 1)
    return float(cohens_kappa(table, return_results=False))


def rater_pairs(judgments: Sequence[Judgment]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the answers of two raters on every pair judged more than once: was the recovery of the
    lower id chosen?

    A pair rated by m people gives m (m - 1) / 2 comparisons.
    """
    answers: defaultdict[tuple[str, str, str], list[tuple[str, bool]]] = defaultdict(list)
    for judgment in judgments:
        chosen = judgment.a.id if judgment.choice == "a" else judgment.b.id
        answers[judgment.pair].append((judgment.annotator, chosen == judgment.pair[1]))
    twos = [
        (one[1], two[1])
        for given in answers.values()
        for one, two in combinations(sorted(given), 2)
        if one[0] != two[0]
    ]
    array = np.array(twos, dtype=bool).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def statistics(judgments: Sequence[Judgment]) -> Statistics:
    """Return counts, agreement and order effects, also by context flag."""
    first, second = rater_pairs(judgments)
    times = [j.time_s for j in judgments if j.time_s is not None]
    lefts = [j.choice == j.shown_left for j in judgments]
    return {
        "judgments": len(judgments),
        "pairs": len({j.pair for j in judgments}),
        "scenarios": len({j.scenario.id for j in judgments}),
        "annotators": len({j.annotator for j in judgments}),
        "double_rated_pairs": _double_rated(judgments),
        "kappa": _number(cohen_kappa(first, second)),
        "agreement": _mean(first == second),
        "left_share": _mean(lefts),
        "sources": dict(Counter[str](j.source for j in judgments)),
        "with_ratings": sum(j.ratings_a is not None for j in judgments),
        "with_attributes": sum(j.a.attributes is not None for j in judgments),
        "mean_time_s": _mean(times),
        "contexts": {flag: _of_flag(judgments, flag) for flag in CONTEXT_FLAGS},
    }


def _double_rated(judgments: Sequence[Judgment]) -> int:
    raters: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for judgment in judgments:
        raters[judgment.pair].add(judgment.annotator)
    return sum(len(people) > 1 for people in raters.values())


def _of_flag(judgments: Sequence[Judgment], flag: str) -> ContextCounts:
    held = [j for j in judgments if getattr(j.context, flag)]
    first, second = rater_pairs(held)
    return {
        "judgments": len(held),
        "double_rated": len(first),
        "kappa": _number(cohen_kappa(first, second)),
    }


def _mean(values: Sequence[float] | NDArray[np.bool_]) -> float | None:
    return _number(float(np.mean(values))) if len(values) else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)

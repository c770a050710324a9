"""What a file of judgments holds: counts, agreement, and the same by context."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmgym.preferences.judgments import Judgment
from harmgym.tasks.spec import CONTEXT_FLAGS


def cohen_kappa(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return Cohen's kappa of two raters' labels (n,), nan where there are none or chance agreement
    is 1.
    """
    first, second = np.asarray(first), np.asarray(second)
    if not len(first):
        return float("nan")
    labels = np.union1d(first, second)
    observed = float(np.mean(first == second))
    chance = float(sum(np.mean(first == label) * np.mean(second == label) for label in labels))
    return float("nan") if chance >= 1.0 else (observed - chance) / (1.0 - chance)


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


def statistics(judgments: Sequence[Judgment]) -> dict[str, Any]:
    """Return counts, agreement and order effects as a JSON-ready dict.

    Keys: judgments, pairs, scenarios, annotators, double_rated_pairs, kappa, agreement, left_share
    (share of choices that fell on the left one), sources, with_ratings, with_attributes,
    mean_time_s, contexts (flag -> judgments, double-rated comparisons, kappa).
    """
    first, second = rater_pairs(judgments)
    times = [j.time_s for j in judgments if j.time_s is not None]
    return {
        "judgments": len(judgments),
        "pairs": len({j.pair for j in judgments}),
        "scenarios": len({j.scenario.id for j in judgments}),
        "annotators": len({j.annotator for j in judgments}),
        "double_rated_pairs": _double_rated(judgments),
        "kappa": _number(cohen_kappa(first, second)),
        "agreement": _number(float(np.mean(first == second)) if len(first) else float("nan")),
        "left_share": _number(
            float(np.mean([j.choice == j.shown_left for j in judgments]))
            if judgments
            else float("nan")
        ),
        "sources": dict(Counter(j.source for j in judgments)),
        "with_ratings": sum(j.ratings_a is not None for j in judgments),
        "with_attributes": sum(j.a.attributes is not None for j in judgments),
        "mean_time_s": _number(float(np.mean(times)) if times else float("nan")),
        "contexts": {flag: _of_flag(judgments, flag) for flag in CONTEXT_FLAGS},
    }


def _double_rated(judgments: Sequence[Judgment]) -> int:
    raters: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for judgment in judgments:
        raters[judgment.pair].add(judgment.annotator)
    return sum(len(people) > 1 for people in raters.values())


def _of_flag(judgments: Sequence[Judgment], flag: str) -> dict[str, Any]:
    held = [j for j in judgments if getattr(j.context, flag)]
    first, second = rater_pairs(held)
    return {
        "judgments": len(held),
        "double_rated": len(first),
        "kappa": _number(cohen_kappa(first, second)),
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)

"""Evaluate on a file of judgments of whatever source: five folds of whole scenarios, every
predictor on the same folds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import JudgmentError
from harmgym.preferences.features import Judged, folds, judged_of
from harmgym.preferences.judgments import Judgment
from harmgym.preferences.measures import calibration_error, correct, losses, mean_interval
from harmgym.preferences.statistics import cohen_kappa, rater_pairs
from harmgym.preferences.training.evaluate import effects, headline, three
from harmgym.preferences.training.report import PredictorRow, Report
from harmgym.preferences.training.rows import compare
from harmgym.reward.model import PreferenceModel

Array = NDArray[np.float64]
FEWEST = 50
FEWEST_DOUBLE = 30


def evaluate_file(
    model: PreferenceModel, judgments: Sequence[Judgment], encoder: bool = False
) -> Report:
    """Evaluate a model on judgments, beside predictors that are cross-validated on the same
    judgments.

    Nobody knows the true weights here, so the ceiling is a bound from people who judged the same
    pair, where there are at least 30 such pairs, else None. Raises: JudgmentError on fewer than 50
    judgments, 5 scenarios, or one-sided choices.
    """
    data, note = _with_levels(model, judged_of(judgments))
    data.pairs.require_two_classes()
    if len(judgments) < FEWEST or len(np.unique(data.pairs.scenario)) < 5:
        raise JudgmentError(
            f"needed at least {FEWEST} judgments on 5 scenarios to evaluate, found {len(judgments)}"
        )
    found = headline(model, data.pairs, None)
    ceiling = agreement_ceiling(judgments)
    accuracy = found["accuracy"]
    return {
        "accuracy": accuracy,
        "ceiling": ceiling,
        "ratio": accuracy / ceiling if ceiling and accuracy is not None else None,
        "ece": found["ece"],
        "intervals": found["intervals"],
        "source": data.pairs.source,
        "model": {
            "digest": model.digest,
            "source": model.info.source,
            "context": model.info.context,
        },
        "rows": _rows(data, encoder),
        "effects": effects(model.w, model.standard_errors),
        "protocol": {
            "judgments": len(judgments),
            "scenarios": len(np.unique(data.pairs.scenario)),
            "levels": note,
            "rows": "five folds of whole scenarios on these judgments; "
            "the headline is the given model on all of them",
            "ceiling": "upper bound from pairs judged twice: (1 + sqrt(kappa)) / 2"
            if ceiling
            else "unknown",
        },
    }


def agreement_ceiling(judgments: Sequence[Judgment]) -> float | None:
    """Return an upper bound of what any model can reach, from pairs that two people judged; None
    where there are too few.

    With p the share of people who choose a, the best accuracy is the mean of (1 + |2p - 1|) / 2,
    and kappa is the mean of (2p - 1)^2; the mean of |2p - 1| is at most the root of that.
    """
    first, second = rater_pairs(judgments)
    if len(first) < FEWEST_DOUBLE:
        return None
    return (1.0 + float(np.sqrt(max(0.0, cohen_kappa(first, second))))) / 2.0


def _with_levels(model: PreferenceModel, data: Judged) -> tuple[Judged, str]:
    unknown = np.asarray(np.isnan(data.plans.levels).any(axis=1))
    if not unknown.any():
        return data, "known"
    levels = np.where(
        unknown[:, None], model.estimator.levels(data.plans.features), data.plans.levels
    )
    note = f"estimated from text for {int(unknown.sum())} of {len(unknown)} recoveries"
    return data.with_levels(levels), note


def _rows(data: Judged, encoder: bool) -> list[PredictorRow]:
    fold, pairs = folds(data.pairs.scenario), data.pairs
    logits: dict[str, Array] = {}
    notes: dict[str, str] = {}
    for held in np.unique(fold):
        test = data.take(fold == held)
        for row in compare(_only_seen(data.take(fold != held)), data.plans, encoder):
            logits.setdefault(row.name, np.empty(len(pairs)))[fold == held] = row.logits(test)
            notes[row.name] = row.note
    return [
        {
            "name": name,
            "accuracy": three(mean_interval(correct(odds, pairs.chose_a), pairs.scenario)),
            "loss": three(mean_interval(losses(odds, pairs.chose_a), pairs.scenario)),
            "ece": three(calibration_error(odds, pairs.chose_a, pairs.scenario)),
            "note": notes[name],
        }
        for name, odds in logits.items()
    ]


def _only_seen(data: Judged) -> Judged:
    """Drop the plans of held-out scenarios, so that nothing is learned from their texts."""
    kept: NDArray[np.int64] = np.flatnonzero(
        np.isin(data.plans.scenario, np.unique(data.pairs.scenario))
    )
    place = np.full(len(data.plans.texts), -1)
    place[kept] = np.arange(len(kept))
    return Judged(
        data.plans.take(kept),
        data.pairs,
        np.asarray(place[data.plan_a]),
        np.asarray(place[data.plan_b]),
    )

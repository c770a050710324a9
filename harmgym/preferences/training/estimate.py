"""Train the estimator of levels from plan texts, on a corpus of known levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import JudgmentError
from harmgym.preferences.features import Plans, folds
from harmgym.reward.estimate import Estimator
from harmgym.reward.lexicon import CONCEPT_COUNT, SHAPE
from harmgym.tasks.rubric import ATTRIBUTES

Array = NDArray[np.float64]
RIDGES = (30.0, 100.0)
STEM_RIDGES = (300.0, 1000.0, 1e6)
"""Ridges of the hashed stems; the last one switches them off."""


def train_estimator(plans: Plans, fold_count: int = 5) -> tuple[Estimator, Array]:
    """Fit the estimator on plans of known levels; also return each plan's estimate (P, 8) with its
    scenario left out.
    """
    if not np.isfinite(plans.levels).all():
        raise JudgmentError(
            "needed known levels of every plan to train the estimator, found plans without any"
        )
    rows, fold = plans.features, folds(plans.scenario, fold_count)
    best: tuple[float, tuple[float, float], Array] | None = None
    for ridge in [(one, two) for one in RIDGES for two in STEM_RIDGES]:
        left_out = np.empty_like(plans.levels)
        for held in np.unique(fold):
            left_out[fold == held] = _ridge(
                rows[fold != held], plans.levels[fold != held], ridge
            ).levels(rows[fold == held])
        loss = float(np.mean((left_out - plans.levels) ** 2))
        if best is None or loss < best[0]:
            best = (loss, ridge, left_out)
    assert best is not None
    fitted = _ridge(rows, plans.levels, best[1])
    error = (best[2] - plans.levels).std(axis=0)
    return Estimator(fitted.offset, fitted.slopes, fitted.middle, error), best[2]


def correlations(estimated: Array, known: Array) -> dict[str, float]:
    """Return the correlation of estimated with known levels (n, 8) per dimension; nan where either
    never varies.
    """
    found = {}
    for at, name in enumerate(ATTRIBUTES):
        varies = estimated[:, at].std() > 0 and known[:, at].std() > 0
        found[name] = (
            float(np.corrcoef(estimated[:, at], known[:, at])[0, 1]) if varies else float("nan")
        )
    return found


def _ridge(rows: Array, levels: Array, ridge: tuple[float, float]) -> Estimator:
    """Solve in the dual (plans x plans): fewer plans than features. A feature's ridge is folded
    into its scale.
    """
    own = CONCEPT_COUNT + len(SHAPE)
    scale = np.concatenate(
        [
            np.full(own, 1.0 / np.sqrt(ridge[0])),
            np.full(rows.shape[1] - own, 1.0 / np.sqrt(ridge[1])),
        ]
    )
    offset, middle = rows.mean(axis=0), levels.mean(axis=0)
    scaled = (rows - offset) * scale
    dual = np.linalg.solve(scaled @ scaled.T + np.eye(len(rows)), levels - middle)
    return Estimator(
        offset, ((scaled.T @ dual) * scale[:, None]).T, middle, np.zeros(len(ATTRIBUTES))
    )

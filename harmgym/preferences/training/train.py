"""Train a preference model from judgments: choose context and ridge, fit, bootstrap, set the
temperatures.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import harmgym
from harmgym.errors import JudgmentError
from harmgym.preferences.features import Judged, Pairs
from harmgym.preferences.training.estimate import train_estimator
from harmgym.preferences.training.fit import (
    bootstrap,
    choose_ridge,
    fit,
    log_loss,
    require_torch,
    temperature,
)
from harmgym.reward.context import CONTEXT_FEATURES
from harmgym.reward.estimate import Estimator
from harmgym.reward.model import PreferenceModel, build

Array = NDArray[np.float64]
MEMBERS = 32
CONTEXTS = tuple(CONTEXT_FEATURES)


def train(
    data: Judged,
    trained_on: dict[str, object],
    contexts: Sequence[str] = CONTEXTS,
    members: int = MEMBERS,
    estimator: Estimator | None = None,
    seed: int = 0,
) -> PreferenceModel:
    """Train on judgments whose levels are known (measured, or the raters' own).

    `contexts`: the context features to choose among by the loss on scenarios left out ("none",
    "flags", "topics"). `estimator`: of levels from text; without one it is trained on the judged
    plans. `trained_on` goes into the model's JSON. Raises: JudgmentError when a level is unknown,
    or only one side was ever chosen.
    """
    if not np.isfinite(data.plans.levels).all():
        raise JudgmentError(
            "needed levels of every recovery (measured attributes or ratings), "
            "found recoveries without"
        )
    tried = {kind: choose_ridge(data.pairs, kind) for kind in contexts}
    losses = {kind: log_loss(logits, data.pairs.chose_a) for kind, (_, logits) in tried.items()}
    context = min(losses, key=lambda kind: losses[kind])
    ridge, left_out = tried[context]
    fitted = fit(data.pairs, context, ridge)
    ensemble = bootstrap(data.pairs, context, ridge, members, seed)
    estimator, estimates = _estimator(data, estimator)
    guessed = data.with_levels(estimates)
    numbers = {
        "w": fitted.w,
        "u": fitted.u,
        "centre": fitted.centre,
        "members_w": np.stack([one.w for one in ensemble]),
        "members_u": np.stack([one.u for one in ensemble]),
        "standard_errors": fitted.standard_errors,
        "temperatures": np.array(
            [
                temperature(left_out, data.pairs.chose_a),
                temperature(fitted.logits(guessed.pairs, context), data.pairs.chose_a),
            ]
        ),
        **estimator.numbers(),
    }
    training: dict[str, object] = {
        "ridge_w": ridge[0],
        "ridge_u": ridge[1],
        "left_bias": round(fitted.left, 4),
        "loss": round(fitted.loss, 5),
        "left_out_loss": {kind: round(value, 5) for kind, value in losses.items()},
        "members": members,
        "seed": seed,
    }
    return build(
        numbers,
        context=context,
        source=data.pairs.source,
        trained_on=trained_on,
        training=training,
        versions=versions(),
    )


def _estimator(data: Judged, estimator: Estimator | None) -> tuple[Estimator, Array]:
    if estimator is None:
        return train_estimator(data.plans)
    return estimator, estimator.levels(data.plans.features)


def describe(pairs: Pairs, **more: object) -> dict[str, object]:
    """Return what a model's JSON says of its data: counts and source, and what the caller adds."""
    return {
        "judgments": len(pairs),
        "scenarios": len(np.unique(pairs.scenario)),
        "source": pairs.source,
        **more,
    }


def versions() -> dict[str, str]:
    """Return the versions that a trained model depends on."""
    found = {
        "harmgym": harmgym.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    return {**found, "torch": str(require_torch().__version__)}

"""The predictors that are compared side by side, each trained on the same judgments.

Every one of them gives a recovery a utility (log-odds); what it predicts for a pair is the
difference of two utilities.

| row | what it knows |
| --- | --- |
| length only | the number of words of the plan |
| text only | concepts, shape and hashed words of the plan (`harmgym.reward.lexicon`) |
| text only, sentence encoder | a frozen sentence embedding of the plan |
| global attributes | known levels, the same weights in every context |
| context-conditional (flags / topics) | known levels, weights that depend on the context |
| … estimated | the same weights, levels estimated from the plan's text |
| … + text residual | context-conditional, and a text head on what is left |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmgym.preferences.features import Judged, Plans, folds
from harmgym.preferences.measures import losses, mean_interval
from harmgym.preferences.training.estimate import train_estimator
from harmgym.preferences.training.fit import Fit, choose_ridge, fit, log_loss, solve, temperature
from harmgym.preferences.training.text import encode
from harmgym.reward.context import context_features
from harmgym.reward.estimate import Estimator

Array = NDArray[np.float64]
RIDGES = (1.0, 1e-1, 1e-2)
DIRECTIONS = 64


@dataclass(frozen=True, eq=False)
class Row:
    """One predictor: its name, the utilities (P,) it gives to the test plans, its temperature, and
    a note.
    """

    name: str
    utility: Array
    temperature: float = 1.0
    note: str = ""

    def logits(self, data: Judged) -> Array:
        """Return calibrated log-odds (n,) for a over b."""
        odds: Array = (self.utility[data.plan_a] - self.utility[data.plan_b]) / self.temperature
        return odds


def compare(train: Judged, test: Plans, encoder: bool) -> Iterator[Row]:
    """Train every predictor on `train` and yield it with the utilities of the `test` plans."""
    yield _linear("length only", train, _words(train.plans), _words(test))
    yield _linear("text only", train, train.plans.features, test.features)
    vectors = (encode(train.plans.texts), encode(test.texts)) if encoder else None
    if vectors:
        yield _linear("text only, sentence encoder", train, *vectors)
    estimator, left_out = train_estimator(train.plans)
    guessed = train.with_levels(left_out)
    for name, context in (("global attributes", "none"), ("context-conditional, flags", "flags")):
        yield from _attributes(name, context, train, guessed, test, estimator)
    ridge, _ = choose_ridge(train.pairs, "topics")
    yield from _attributes("context-conditional, topics", "topics", train, guessed, test, estimator)
    fitted = fit(train.pairs, "topics", ridge)
    x = vectors or (train.plans.features, test.features)
    yield _residual("context-conditional, topics + text residual", train, fitted, test, *x)


def utilities(fitted: Fit, context: str, plans: Plans, levels: Array) -> Array:
    """Return (w + U shift) . level of each plan (P,)."""
    weights = fitted.w + (context_features(context, plans.flags) - fitted.centre) @ fitted.u.T
    found: Array = np.sum(weights * levels, axis=1)
    return found


def _attributes(
    name: str, context: str, train: Judged, guessed: Judged, test: Plans, estimator: Estimator
) -> Iterator[Row]:
    ridge, left_out = choose_ridge(train.pairs, context)
    fitted = fit(train.pairs, context, ridge)
    chose_a = train.pairs.chose_a
    yield Row(
        f"{name}, measured",
        utilities(fitted, context, test, test.levels),
        temperature(left_out, chose_a),
    )
    heat = temperature(fitted.logits(guessed.pairs, context), chose_a)
    yield Row(
        f"{name}, estimated",
        utilities(fitted, context, test, estimator.levels(test.features)),
        heat,
    )


def _words(plans: Plans) -> Array:
    return np.array([[np.log1p(len(text.split()))] for text in plans.texts])


def _linear(name: str, train: Judged, known: Array, unknown: Array) -> Row:
    """Logistic regression on differences of plan features, ridge chosen on scenarios left out."""
    head, _, left_out = linear_head(train, known, np.zeros(len(train.pairs)), RIDGES)
    return Row(name, unknown @ head, temperature(left_out, train.pairs.chose_a))


def linear_head(
    train: Judged, known: Array, base: Array, ridges: Sequence[float]
) -> tuple[Array, float, Array]:
    """Fit a head on plan features (P, F) beside log-odds `base` (n,); return it, the factor of
    base, left-out log-odds (n,).

    Solved in the `DIRECTIONS` in which the differences vary most: a thousand judgments cannot tell
    more apart.
    """
    difference = known[train.plan_a] - known[train.plan_b]
    size, basis = np.linalg.eigh(difference.T @ difference)
    basis = basis[:, size > 1e-9 * max(size[-1], 1e-12)][:, -DIRECTIONS:].T
    x = np.concatenate([difference @ basis.T, base[:, None], train.pairs.left[:, None]], axis=1)
    fold, chose_a = folds(train.pairs.scenario), train.pairs.chose_a
    held = np.stack([(fold != one).astype(float) for one in np.unique(fold)])
    best: tuple[float, float, Array] | None = None
    start: Array | None = None
    for ridge in ridges:
        start, _ = solve(
            x, chose_a, held, np.repeat(_ridge(x, ridge)[None], len(held), axis=0), start
        )
        logits = (x[:, :-1] @ start[:, :-1].T)[np.arange(len(x)), fold]
        loss = log_loss(logits, chose_a)
        if best is None or loss < best[0]:
            best = (loss, ridge, logits)
    assert best is not None
    theta, _ = solve(x, chose_a, np.ones((1, len(x))), _ridge(x, best[1])[None])
    head: Array = basis.T @ theta[0, :-2]
    return head, float(theta[0, -2]), best[2]


def _ridge(x: Array, ridge: float) -> Array:
    return np.concatenate([np.full(x.shape[1] - 2, ridge), [1e-6, 1e-6]])


def _residual(
    name: str, train: Judged, fitted: Fit, test: Plans, known: Array, unknown: Array
) -> Row:
    """Add a text head to the attributes; it counts as a win only where its gain on scenarios left
    out is clear of zero.
    """
    _, left_out = choose_ridge(train.pairs, "topics")
    head, factor, with_text = linear_head(train, known, left_out, RIDGES)
    chose_a = train.pairs.chose_a
    gain = mean_interval(
        losses(left_out, chose_a) - losses(with_text, chose_a), train.pairs.scenario
    )
    verdict = "wins, so it would be used" if gain.low > 0 else "does not win, so it is not used"
    note = (
        f"text head: gain {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] nats "
        f"on scenarios left out; it {verdict}"
    )
    base = utilities(fitted, "topics", test, test.levels)
    return Row(name, factor * base + unknown @ head, temperature(with_text, chose_a), note)

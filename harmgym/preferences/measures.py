"""Accuracy, calibration and their intervals; whole scenarios are resampled, because judgments on
one scenario hang together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 2000
BINS = 10
LEVEL = 0.95


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def correct(logits: Array, chose_a: NDArray[np.bool_]) -> Array:
    """Return 1 where the sign of the log-odds agrees with the choice, 0 where not, 0.5 for a tie
    (n,).
    """
    return np.where(logits == 0, 0.5, (logits > 0) == chose_a).astype(np.float64)


def losses(logits: Array, chose_a: NDArray[np.bool_]) -> Array:
    """Return the negative log-likelihood (nats) of each choice (n,)."""
    found: Array = np.logaddexp(0.0, np.where(chose_a, -logits, logits))
    return found


def scenario_weights(
    scenario: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Array, NDArray[np.int64]]:
    """Return how often each scenario is drawn (resamples, scenarios), and each judgment's scenario
    row (n,).
    """
    known, row = np.unique(scenario, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(known), np.full(len(known), 1.0 / len(known)), size=resamples)
    return drawn.astype(np.float64), row.astype(np.int64)


def mean_interval(values: Array, scenario: NDArray[np.int64]) -> Interval:
    """Return the mean of values (n,) with its scenario-clustered bootstrap interval."""
    return ratio_interval(values, np.ones(len(values)), scenario)


def ratio_interval(above: Array, below: Array, scenario: NDArray[np.int64]) -> Interval:
    """Return sum(above) / sum(below) with its scenario-clustered bootstrap interval."""
    drawn, row = scenario_weights(scenario)
    tops, bottoms = np.bincount(row, above), np.bincount(row, below)
    ratios = (drawn @ tops) / (drawn @ bottoms)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(above.sum() / below.sum()), float(low), float(high))


def calibration_error(
    logits: Array, chose_a: NDArray[np.bool_], scenario: NDArray[np.int64]
) -> Interval:
    """Return the expected calibration error of the choice that is predicted, over ten bins of equal
    count.
    """
    confidence = 1.0 / (1.0 + np.exp(-np.abs(logits)))
    gap = confidence - correct(logits, chose_a)
    rank = np.empty(len(gap), dtype=np.int64)
    rank[np.argsort(confidence, kind="stable")] = np.arange(len(gap)) * BINS // len(gap)
    drawn, row = scenario_weights(scenario, resamples=500)
    sums = np.zeros((drawn.shape[1], BINS))
    counts = np.zeros(drawn.shape[1])
    np.add.at(sums, (row, rank), gap)
    np.add.at(counts, row, 1.0)
    errors = np.abs(drawn @ sums).sum(axis=1) / (drawn @ counts)
    low, high = np.quantile(errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.abs(sums.sum(axis=0)).sum() / len(gap)), float(low), float(high))

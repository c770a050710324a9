"""Simulated annotators, drawn around the published coefficients. Nobody real stands behind them.

A simulated person i rates each recovery k on the eight dimensions and then chooses:

    rating   = clip(round(level + leniency_i + Normal(0, noise)), 1, 5)
    weights  = gain * (table4 + personal_i + table5 @ (topics(context) - centre))
    log-odds = weights . (rating_a - rating_b) + left_i * (+1 if a is on the left, else -1)
    P(a)     = (1 - lapse_i) * sigmoid(log-odds) + lapse_i / 2

What is published: Table 4 (the average weights), Table 5 (how topics move them), 230 people, 5
pairs each, Cohen's kappa 0.15. What is ours: that Table 4 holds at the average context (`centre`),
the mapping from flags to topics (`harmgym.reward.context`), and the sizes of personal differences,
left bias and lapses below. Two numbers are fitted to the published figures by `calibrate`: `noise`,
so that two people agree on the same pair with kappa 0.15, and `gain`, so that a pooled conditional
logistic regression on the ratings gives Table 4 back in spite of personal differences and lapses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harmgym.errors import JudgmentError
from harmgym.preferences.corpus import Corpus
from harmgym.records import Record
from harmgym.reward.context import MODERATIONS, topic_weights
from harmgym.reward.published import ANNOTATORS, KAPPA, TABLE_4
from harmgym.tasks.rubric import ATTRIBUTES

Array = NDArray[np.float64]
MAIN_EFFECTS: Array = np.array([TABLE_4[name].coefficient for name in ATTRIBUTES])
MAX_NOISE = 4.0
"""Ratings noisier than this (points) say next to nothing."""


class Habits(Record):
    """Our assumptions about how people differ; log-odds unless said otherwise."""

    personal_sd: Annotated[float, Field(ge=0)] = 0.10
    leniency_sd: Annotated[float, Field(ge=0)] = 0.3
    left_mean: float = 0.10
    left_sd: Annotated[float, Field(ge=0)] = 0.10
    lapse_mean: Annotated[float, Field(gt=0, lt=0.5)] = 0.04


class Calibration(Record):
    """What was fitted, to what: `noise` in points of rating, `gain` without unit, and the kappa
    they lead to.
    """

    noise: float
    gain: float
    centre: tuple[float, ...]
    kappa: float
    target: float
    habits: Habits
    corpus: str


@dataclass(frozen=True)
class Population:
    """People: personal weights (n, 8), leniency, left bias and lapse rate (n,), and the fitted
    calibration.
    """

    personal: Array
    leniency: Array
    left: Array
    lapse: Array
    calibration: Calibration
    seed: int

    def __len__(self) -> int:
        return len(self.lapse)

    def mean_weights(self, flags: Array) -> Array:
        """Return the population's true weights (…, 8) in the contexts of flags (…, 10)."""
        return population_weights(self.calibration, flags)

    def weights(self, person: NDArray[np.int64], flags: Array) -> Array:
        """Return the true weights (n, 8) of these people in these contexts."""
        return self.mean_weights(flags) + self.calibration.gain * self.personal[person]

    def rate(self, person: NDArray[np.int64], levels: Array, rng: np.random.Generator) -> Array:
        """Return the ratings 1..5 (n, 8) that these people give to recoveries of these levels (n,
        8).
        """
        seen = (
            levels
            + self.leniency[person, None]
            + rng.normal(0.0, self.calibration.noise, levels.shape)
        )
        ratings: Array = np.clip(np.round(seen), 1.0, 5.0)
        return ratings

    def probability(
        self, person: NDArray[np.int64], flags: Array, a: Array, b: Array, left: Array
    ) -> Array:
        """Return the probability (n,) that each person chooses a, given the person's ratings a and
        b (n, 8).
        """
        odds = np.sum(self.weights(person, flags) * (a - b), axis=1) + self.left[person] * left
        chance: Array = (1.0 - self.lapse[person]) / (1.0 + np.exp(-odds)) + self.lapse[
            person
        ] / 2.0
        return chance


def population_weights(calibration: Calibration, flags: Array) -> Array:
    """Return the average simulated person's weights (…, 8) in the contexts of flags (…, 10)."""
    shift = topic_weights(flags) - np.array(calibration.centre)
    weights: Array = calibration.gain * (MAIN_EFFECTS + shift @ MODERATIONS.T)
    return weights


def draw(calibration: Calibration, seed: int, people: int = ANNOTATORS) -> Population:
    """Draw a population; equal arguments give equal people."""
    if people < 2:
        raise JudgmentError(f"needed at least 2 annotators, found {people}")
    rng = np.random.default_rng([seed, 230])
    habits = calibration.habits
    return Population(
        personal=rng.normal(0.0, habits.personal_sd, (people, len(ATTRIBUTES))),
        leniency=rng.normal(0.0, habits.leniency_sd, people),
        left=rng.normal(habits.left_mean, habits.left_sd, people),
        lapse=rng.beta(1.0, 1.0 / habits.lapse_mean - 1.0, people),
        calibration=calibration,
        seed=seed,
    )


def calibrate(
    corpus: Corpus, target: float = KAPPA, habits: Habits | None = None, pairs: int = 1500
) -> Calibration:
    """Fit `noise` and `gain` on the pairs of a corpus, by bisection over one set of random numbers:
    the same every time.

    Where even ratings without noise stay below `target`, noise is 0 and `kappa` says what is
    reached.
    """
    trial = _Trial.of(corpus, habits or Habits(), pairs)
    low, high = 0.0, MAX_NOISE
    if trial.kappa(low) <= target:
        high = low
    for _ in range(14 if high > low else 0):
        middle = (low + high) / 2.0
        low, high = (middle, high) if trial.kappa(middle) > target else (low, middle)
    noise = round((low + high) / 2.0, 3)
    return trial.calibration(noise, trial.gain(noise), trial.kappa(noise), target)


@dataclass(frozen=True)
class _Trial:
    """A fixed set of pairs, each judged by the same 2 x `RATERS` imagined people, for fitting."""

    corpus: Corpus
    habits: Habits
    scenario: NDArray[np.int64]
    a: Array
    b: Array
    centre: Array

    RATERS = 16

    @classmethod
    def of(cls, corpus: Corpus, habits: Habits, pairs: int) -> _Trial:
        rng = np.random.default_rng(1847)
        rows = all_pairs(corpus)
        kept = rows[rng.permutation(len(rows))[:pairs]]
        centre = topic_weights(corpus.flags).mean(axis=0)
        return cls(
            corpus,
            habits,
            corpus.scenario_of[kept[:, 0]],
            corpus.levels[kept[:, 0]],
            corpus.levels[kept[:, 1]],
            centre,
        )

    def calibration(self, noise: float, gain: float, kappa: float, target: float) -> Calibration:
        centre = tuple(round(float(value), 6) for value in self.centre)
        return Calibration(
            noise=noise,
            gain=round(gain, 4),
            centre=centre,
            kappa=round(kappa, 4),
            target=target,
            habits=self.habits,
            corpus=self.corpus.digest,
        )

    def judge(self, noise: float, gain: float) -> tuple[Array, Array]:
        """Return P(choose a) and rating differences: (pairs, 2 x RATERS) and (pairs, 2 x RATERS,
        8).
        """
        raters = 2 * self.RATERS
        rng = np.random.default_rng(604)
        people = draw(self.calibration(noise, gain, 0.0, 0.0), seed=604, people=raters * 8)
        probabilities, differences = [], []
        flags = self.corpus.flags[self.scenario]
        for _ in range(raters):
            who = rng.integers(len(people), size=len(self.a))
            a, b = people.rate(who, self.a, rng), people.rate(who, self.b, rng)
            left = np.where(rng.random(len(who)) < 0.5, 1.0, -1.0)
            probabilities.append(people.probability(who, flags, a, b, left))
            differences.append(a - b)
        return np.stack(probabilities, axis=1), np.stack(differences, axis=1)

    def gain(self, noise: float) -> float:
        """Return the gain at which a pooled regression on the ratings gives Table 4 back."""
        gain = 1.0
        for _ in range(6):
            chance, difference = self.judge(noise, gain)
            pooled = _pooled_logit(difference.reshape(-1, len(ATTRIBUTES)), chance.reshape(-1))
            gain *= float(MAIN_EFFECTS @ MAIN_EFFECTS / (MAIN_EFFECTS @ pooled))
        return gain

    def kappa(self, noise: float) -> float:
        """Return the expected kappa of two different people: the product of two independent halves,
        so without bias.
        """
        chance, _ = self.judge(noise, self.gain(noise))
        lean = 2.0 * chance - 1.0
        return float(
            np.mean(lean[:, : self.RATERS].mean(axis=1) * lean[:, self.RATERS :].mean(axis=1))
        )


def _pooled_logit(x: Array, p: Array) -> Array:
    """Return the coefficients of a logistic regression of fractional answers p (n,) on x (n, k), by
    Newton's method.
    """
    weights = np.zeros(x.shape[1])
    for _ in range(12):
        fitted = 1.0 / (1.0 + np.exp(-x @ weights))
        step = np.linalg.solve((x * (fitted * (1 - fitted))[:, None]).T @ x, x.T @ (p - fitted))
        weights = weights + step
    return weights


def all_pairs(corpus: Corpus) -> NDArray[np.int64]:
    """Return every pair of recoveries of one scenario as plan rows, int (pairs, 2), first below
    second.
    """
    found = []
    for row in range(len(corpus.scenarios)):
        plans = np.flatnonzero(corpus.scenario_of == row)
        first, second = np.triu_indices(len(plans), k=1)
        found.append(np.stack([plans[first], plans[second]], axis=1))
    return np.concatenate(found).astype(np.int64)

"""Judgments by simulated annotators on the text corpus: the stand-in for the published human data,
and marked as such.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import JudgmentError
from harmgym.preferences.annotators import Calibration, Population, all_pairs, draw
from harmgym.preferences.corpus import Corpus
from harmgym.preferences.features import Judged, Pairs, Plans
from harmgym.preferences.judgments import Judgment, RecoveryText, ScenarioText
from harmgym.reward.published import DOUBLE_RATED, PAIRS_EACH
from harmgym.tasks.rubric import Attributes

Array = NDArray[np.float64]
DOUBLE_SHARE = DOUBLE_RATED / 1150
"""Share of judgments that are second ratings: 130 of 230 people x 5."""


@dataclass(frozen=True)
class Simulation:
    """n simulated judgments.

    Attributes: plan_a, plan_b int (n,), rows of the corpus's plans; person int (n,); left float64
    (n,), +1 where a was on the left; ratings_a, ratings_b float64 (n, 8); chose_a bool (n,).
    """

    corpus: Corpus
    population: Population
    plan_a: NDArray[np.int64]
    plan_b: NDArray[np.int64]
    person: NDArray[np.int64]
    left: Array
    ratings_a: Array
    ratings_b: Array
    chose_a: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.chose_a)

    def pairs(self, levels: str = "attributes") -> Pairs:
        """Return the judgments as arrays, with levels known by construction, or with the simulated
        people's ratings.
        """
        scenario = self.corpus.scenario_of[self.plan_a]
        measured = levels == "attributes"
        return Pairs(
            a=self.corpus.levels[self.plan_a] if measured else self.ratings_a,
            b=self.corpus.levels[self.plan_b] if measured else self.ratings_b,
            flags=self.corpus.flags[scenario],
            chose_a=self.chose_a,
            left=self.left,
            scenario=scenario,
            names=tuple(s.id for s in self.corpus.scenarios),
            source="simulated",
        )

    def judged(self) -> Judged:
        """Return the judgments together with the corpus's plans."""
        return Judged(plans_of(self.corpus), self.pairs(), self.plan_a, self.plan_b)

    def true_logits(self, personal: bool) -> Array:
        """Return the log-odds (n,) for a that the true weights give on the true levels.

        With `personal`, each judgment gets the weights of the person who made it: the strictest
            ceiling.
        """
        flags = self.corpus.flags[self.corpus.scenario_of[self.plan_a]]
        people = self.population
        weights = people.weights(self.person, flags) if personal else people.mean_weights(flags)
        logits: Array = np.sum(
            weights * (self.corpus.levels[self.plan_a] - self.corpus.levels[self.plan_b]), axis=1
        )
        return logits

    def judgments(self) -> Iterator[Judgment]:
        """Yield the judgments as records, source "simulated"."""
        scenarios = [
            ScenarioText(
                id=s.id,
                text=s.situation,
                state=s.state,
                constraints=s.constraints,
                origin="corpus",
            )
            for s in self.corpus.scenarios
        ]
        recoveries = [
            RecoveryText(id=p.id, text=p.text, actions=p.steps, attributes=p.attributes)
            for p in self.corpus.plans
        ]
        for at in range(len(self)):
            row = int(self.corpus.scenario_of[self.plan_a[at]])
            yield Judgment(
                scenario=scenarios[row],
                context=self.corpus.scenarios[row].context,
                a=recoveries[self.plan_a[at]],
                b=recoveries[self.plan_b[at]],
                ratings_a=Attributes.of(self.ratings_a[at]),
                ratings_b=Attributes.of(self.ratings_b[at]),
                choice="a" if self.chose_a[at] else "b",
                shown_left="a" if self.left[at] > 0 else "b",
                annotator=f"simulated-{self.population.seed}-{int(self.person[at]):05d}",
                source="simulated",
            )


@functools.lru_cache(maxsize=8)
def plans_of(corpus: Corpus) -> Plans:
    """Return a corpus's plans as arrays (kept, so that their texts are read once)."""
    flags, names = corpus.flags[corpus.scenario_of], tuple(s.id for s in corpus.scenarios)
    return Plans(
        tuple(plan.text for plan in corpus.plans), corpus.levels, flags, corpus.scenario_of, names
    )


def simulate(
    corpus: Corpus,
    calibration: Calibration,
    count: int = 1150,
    seed: int = 0,
    double: int | None = None,
) -> Simulation:
    """Let a population drawn from `seed` judge `count` pairs, five a person, `double` of them
    second ratings.

    Pairs are drawn without repetition until all have been used, then again. Raises: JudgmentError
    on a count below 10.
    """
    if count < 10:
        raise JudgmentError(f"needed at least 10 judgments to simulate, found {count}")
    double = round(count * DOUBLE_SHARE) if double is None else double
    if not 0 <= double <= count // 2:
        raise JudgmentError(
            f"needed 0 to {count // 2} double ratings for {count} judgments, found {double}"
        )
    rng = np.random.default_rng([seed, 1150])
    people = draw(calibration, seed, people=-(-count // PAIRS_EACH))
    chosen = _draw_pairs(all_pairs(corpus), count - double, rng)
    rows = np.concatenate([chosen, chosen[:double]])
    person = _assign(count, double, rng)
    flip = rng.random(count) < 0.5
    plan_a, plan_b = np.where(flip, rows[:, 1], rows[:, 0]), np.where(flip, rows[:, 0], rows[:, 1])
    left = np.where(rng.random(count) < 0.5, 1.0, -1.0)
    ratings_a, ratings_b = (
        people.rate(person, corpus.levels[plan_a], rng),
        people.rate(person, corpus.levels[plan_b], rng),
    )
    flags = corpus.flags[corpus.scenario_of[plan_a]]
    chose_a = rng.random(count) < people.probability(person, flags, ratings_a, ratings_b, left)
    return Simulation(corpus, people, plan_a, plan_b, person, left, ratings_a, ratings_b, chose_a)


def _draw_pairs(
    pairs: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    rounds = [rng.permutation(len(pairs)) for _ in range(-(-count // len(pairs)))]
    return pairs[np.concatenate(rounds)[:count]]


def _assign(count: int, double: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return who judges which, five a person; a second rating comes from somebody else than the
    first.
    """
    person = rng.permutation(np.arange(count) // PAIRS_EACH).astype(np.int64)
    firsts, seconds = np.arange(double), np.arange(count - double, count)
    while len(same := np.flatnonzero(person[firsts] == person[seconds])):
        for at in same:
            other = int(rng.integers(count))
            person[[seconds[at], other]] = person[[other, seconds[at]]]
    return person

"""Is the model right? Everything that `harmgym preference eval` prints, computed afresh; nothing is
remembered from training.

On simulated judgments the truth is known, so the model is measured against it: train and held-out
scenarios share no text, and the people who judge the held-out ones are another population than
those who were trained on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmgym.preferences.annotators import Calibration, calibrate, population_weights
from harmgym.preferences.corpus import Corpus
from harmgym.preferences.executed import VOTES, current, judged_executed, load_executed
from harmgym.preferences.features import Pairs
from harmgym.preferences.measures import (
    Interval,
    calibration_error,
    correct,
    losses,
    mean_interval,
    ratio_interval,
)
from harmgym.preferences.moderation import moderations
from harmgym.preferences.simulate import Simulation, plans_of, simulate
from harmgym.preferences.training.estimate import correlations
from harmgym.preferences.training.fit import choose_ridge, fit
from harmgym.preferences.training.report import (
    BestOf,
    ContextGain,
    Effect,
    Headline,
    Paired,
    PredictorRow,
    Report,
    Span,
    Transfer,
)
from harmgym.preferences.training.rows import Row, compare
from harmgym.reward.model import PreferenceModel
from harmgym.reward.published import TABLE_4
from harmgym.tasks.rubric import ATTRIBUTES

Array = NDArray[np.float64]
TRAIN_SEED, TEST_SEED = 0, 1000
"""Seeds of the population that is trained on, and of the one that judges held-out scenarios."""
TEST_COUNT, PAIRED_TRAIN, PAIRED_TEST, MODERATION_COUNT = 10_000, 5_000, 20_000, 20_000
DRAWS, CANDIDATES = 200, 10
Z = 1.959964


def evaluate_simulated(
    model: PreferenceModel, corpus: Corpus, encoder: bool = False, count: int = 1150
) -> Report:
    """Evaluate a model on held-out scenarios of the corpus, judged by a second simulated
    population.
    """
    calibration = calibrate(corpus)
    train = simulate(corpus.split("train"), calibration, count, TRAIN_SEED)
    test = simulate(corpus.split("heldout"), calibration, TEST_COUNT, TEST_SEED)
    rows = [_own_row(model, test), *compare(train.judged(), plans_of(test.corpus), encoder)]
    rows += [_truth_row(test)]
    found = headline(
        model, test.pairs(), test.true_logits(personal=False), test.true_logits(personal=True)
    )
    return {
        **found,
        "source": "simulated",
        "model": {
            "digest": model.digest,
            "source": model.info.source,
            "context": model.info.context,
        },
        "rows": [_row(row, test) for row in rows],
        "effects": effects(model.w, model.standard_errors),
        "effects_on_ratings": effects_on_ratings(train.pairs("ratings"), model.info.context),
        "paired": paired(corpus, calibration),
        "moderations": moderations(
            simulate(corpus, calibration, MODERATION_COUNT, TRAIN_SEED).pairs("ratings")
        ),
        "estimates": correlations(
            model.estimator.levels(plans_of(test.corpus).features), test.corpus.levels
        ),
        "transfer": transfer(model, calibration),
        "protocol": _protocol(corpus, calibration, train, test),
    }


def headline(
    model: PreferenceModel, pairs: Pairs, truth: Array | None, personal: Array | None = None
) -> Headline:
    """Return accuracy, ceiling, ratio and ece of a model with known levels, and their intervals.

    `truth` (n,): the log-odds by the true weights of the average person in each context, the most
    that can be known without knowing who judges: its accuracy is the ceiling. `personal` (n,): by
    the true weights of the very person who judged, a stricter ceiling that no such model can reach.
    None where nobody knows.
    """
    logits = model.logits(pairs.flags, pairs.a, pairs.b)
    hits = correct(logits, pairs.chose_a)
    intervals = {
        "accuracy": mean_interval(hits, pairs.scenario),
        "ece": calibration_error(logits / model.temperature, pairs.chose_a, pairs.scenario),
    }
    for name, known in (("", truth), ("personal_", personal)):
        if known is not None:
            best = correct(known, pairs.chose_a)
            intervals[f"{name}ceiling"] = mean_interval(best, pairs.scenario)
            intervals[f"{name}ratio"] = ratio_interval(hits, best, pairs.scenario)
    known_truth = truth is not None
    return {
        "accuracy": intervals["accuracy"].value,
        "ceiling": intervals["ceiling"].value if known_truth else None,
        "ratio": intervals["ratio"].value if known_truth else None,
        "ece": intervals["ece"].value,
        "intervals": {name: three(one) for name, one in intervals.items()},
    }


def effects(weights: Array, standard_errors: Array) -> dict[str, Effect]:
    """Return, per dimension, a learned main effect (8,) with its standard error beside the
    published 95 % interval.
    """
    found: dict[str, Effect] = {}
    for at, name in enumerate(ATTRIBUTES):
        published = TABLE_4[name]
        low, high = (
            published.coefficient + sign * Z * published.standard_error for sign in (-1, 1)
        )
        learned = float(weights[at])
        found[name] = {
            "learned": learned,
            "standard_error": float(standard_errors[at]),
            "published": published.coefficient,
            "published_low": low,
            "published_high": high,
            "inside": bool(low <= learned <= high),
        }
    return found


def effects_on_ratings(pairs: Pairs, context: str) -> dict[str, Effect]:
    """Return the main effects fitted to the raters' own ratings, which is what Table 4 is about.

    Weights on known levels are a little smaller: people see the levels with error.
    """
    ridge, _ = choose_ridge(pairs, context)
    fitted = fit(pairs, context, ridge)
    return effects(fitted.w, fitted.standard_errors)


def paired(corpus: Corpus, calibration: Calibration, count: int = PAIRED_TRAIN) -> Paired:
    """Compare context-conditional with global weights at `count` judgments, on the same held-out
    judgments.

    Five folds of whole scenarios: each fold is judged by the second population and predicted by
    models of the other four.
    """
    train, test = (
        simulate(corpus, calibration, count, TRAIN_SEED).pairs(),
        simulate(corpus, calibration, PAIRED_TEST, TEST_SEED),
    )
    judged = test.pairs()
    fold_of = np.random.default_rng(5).permutation(len(corpus.scenarios)) % 5
    logits = {kind: np.empty(len(judged)) for kind in ("none", "flags", "topics")}
    for held in range(5):
        known, unknown = (
            train.take(fold_of[train.scenario] != held),
            fold_of[judged.scenario] == held,
        )
        for kind, out in logits.items():
            ridge, _ = choose_ridge(known, kind)
            out[unknown] = fit(known, kind, ridge).logits(judged.take(unknown), kind)
    chance = 1.0 / (1.0 + np.exp(-test.true_logits(personal=False)))
    return {
        "judgments": count,
        "test_judgments": len(judged),
        "flags": _gain(logits["flags"], logits["none"], judged, chance),
        "topics": _gain(logits["topics"], logits["none"], judged, chance),
    }


def _gain(mine: Array, other: Array, judged: Pairs, chance: Array) -> ContextGain:
    hits = correct(mine, judged.chose_a) - correct(other, judged.chose_a)
    saved = losses(other, judged.chose_a) - losses(mine, judged.chose_a)
    # Which answer the average person would give more often: no noise of single answers, and so the
    # sharpest measure.
    side = np.where(mine > 0, 1.0, -1.0)
    expected = np.where((mine > 0) == (other > 0), 0.0, side) * (2.0 * chance - 1.0)
    return {
        "accuracy_gain": three(mean_interval(hits, judged.scenario)),
        "expected_accuracy_gain": three(mean_interval(expected, judged.scenario)),
        "loss_saved": three(mean_interval(saved, judged.scenario)),
    }


def best_of(utility: Array, truth: Array, scenario: NDArray[np.int64], seed: int = 0) -> BestOf:
    """Let a predictor pick the best of ten plans drawn with replacement from each scenario's plans.

    utility and truth (P,): what the predictor and the average simulated person think of each plan.
    Returns gain (log-odds above the mean of the ten, by the truth), share (of the gain of a perfect
    pick), and win (probability that people prefer the pick to a random one).
    """
    rng = np.random.default_rng(seed)
    gains, bests, wins, groups = [], [], [], []
    for one in np.unique(scenario):
        plans = np.flatnonzero(scenario == one)
        drawn = plans[rng.integers(len(plans), size=(DRAWS, CANDIDATES))]
        picked = drawn[np.arange(DRAWS), np.argmax(utility[drawn], axis=1)]
        gains.append(np.mean(truth[picked] - truth[drawn].mean(axis=1)))
        bests.append(np.mean(truth[drawn].max(axis=1) - truth[drawn].mean(axis=1)))
        wins.append(np.mean(1.0 / (1.0 + np.exp(-(truth[picked][:, None] - truth[drawn])))))
        groups.append(one)
    group = np.array(groups)
    return {
        "gain": three(mean_interval(np.array(gains), group)),
        "share": three(ratio_interval(np.array(gains), np.array(bests), group)),
        "win": three(mean_interval(np.array(wins), group)),
    }


def _row(row: Row, test: Simulation) -> PredictorRow:
    judged = test.judged()
    logits = row.logits(judged)
    chose_a, scenario = judged.pairs.chose_a, judged.pairs.scenario
    hits = correct(logits, chose_a)
    best = correct(test.true_logits(personal=False), chose_a)
    return {
        "name": row.name,
        "accuracy": three(mean_interval(hits, scenario)),
        "ratio": three(ratio_interval(hits, best, scenario)),
        "loss": three(mean_interval(losses(logits, chose_a), scenario)),
        "ece": three(calibration_error(logits, chose_a, scenario)),
        "best_of_10": best_of(row.utility, _truth(test), judged.plans.scenario),
        "note": row.note,
    }


def _own_row(model: PreferenceModel, test: Simulation) -> Row:
    plans = plans_of(test.corpus)
    return Row(
        "this model, measured",
        np.sum(model.weights(plans.flags) * plans.levels, axis=1),
        model.temperature,
    )


def _truth(test: Simulation) -> Array:
    plans = plans_of(test.corpus)
    truth: Array = np.sum(
        population_weights(test.population.calibration, plans.flags) * plans.levels, axis=1
    )
    return truth


def _truth_row(test: Simulation) -> Row:
    return Row(
        "true weights of the average person",
        _truth(test),
        note="what a model that does not know who judges can reach",
    )


def _protocol(
    corpus: Corpus, calibration: Calibration, train: Simulation, test: Simulation
) -> dict[str, object]:
    return {
        "train_judgments": len(train),
        "train_scenarios": len(train.corpus.scenarios),
        "test_judgments": len(test),
        "test_scenarios": len(test.corpus.scenarios),
        "seeds": [TRAIN_SEED, TEST_SEED],
        "kappa": calibration.kappa,
        "noise": calibration.noise,
        "gain": calibration.gain,
        "corpus": corpus.digest,
        "judges": "simulated from the published coefficients; no human judged anything here",
    }


def transfer(model: PreferenceModel, calibration: Calibration) -> Transfer | None:
    """Test the model on recoveries that ran on real machines, judged by the second simulated
    population.

    Returns None where none have been collected; else counts, the headline, the same with levels
    estimated from text, and the correlation of estimated with measured levels.
    """
    recoveries = current(load_executed())
    if len(recoveries) < 2:
        return None
    data, personal = judged_executed(recoveries, calibration, TEST_SEED)
    truth = np.sum(
        population_weights(calibration, data.pairs.flags) * (data.pairs.a - data.pairs.b), axis=1
    )
    guessed = model.estimator.levels(data.plans.features)
    odds = model.logits(data.pairs.flags, guessed[data.plan_a], guessed[data.plan_b])
    return {
        "recoveries": len(recoveries),
        "states": len(data.plans.names),
        "pairs": len(data.pairs) // VOTES,
        "snapshots": len({one.snapshot for one in recoveries}),
        "measured": headline(model, data.pairs, truth, personal),
        "estimated_accuracy": three(
            mean_interval(correct(odds, data.pairs.chose_a), data.pairs.scenario)
        ),
        "estimates": correlations(guessed, data.plans.levels),
    }


def three(interval: Interval) -> Span:
    """Return an interval in its JSON form."""
    return {"value": interval.value, "low": interval.low, "high": interval.high}

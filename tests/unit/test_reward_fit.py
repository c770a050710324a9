"""The fit: arithmetic by hand, symmetries, and a known utility that is found again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from harmgym.errors import JudgmentError
from harmgym.preferences.features import Pairs, folds
from harmgym.preferences.training.fit import (
    bootstrap,
    choose_ridge,
    design,
    fit,
    log_loss,
    mean_loss,
    penalties,
    resample,
    temperature,
)
from harmgym.reward.context import context_features

RIDGE = (1e-3, 1e-2)


def pairs(
    count: int = 4000, seed: int = 0, weights: np.ndarray | None = None, scenarios: int = 60
) -> Pairs:
    """Judgments by one known utility: `weights` (8,) plus, in contexts with the first flag, 0.5
    more on speed.
    """
    rng = np.random.default_rng(seed)
    flags_of = (rng.random((scenarios, 10)) < 0.4).astype(float)
    scenario = rng.integers(scenarios, size=count)
    a, b = (
        rng.integers(1, 6, (count, 8)).astype(float),
        rng.integers(1, 6, (count, 8)).astype(float),
    )
    w = np.array([-0.3, 0.25, 0.0, 0.26, -0.1, 0.1, 0.1, 0.05]) if weights is None else weights
    odds = (a - b) @ w + 0.5 * flags_of[scenario, 0] * (a - b)[:, 3]
    left = np.where(rng.random(count) < 0.5, 1.0, -1.0)
    chose_a = rng.random(count) < 1 / (1 + np.exp(-odds - 0.2 * left))
    return Pairs(
        a,
        b,
        flags_of[scenario],
        chose_a,
        left,
        scenario,
        tuple(map(str, range(scenarios))),
        "simulated",
    )


def test_the_loss_of_three_pairs_is_what_arithmetic_says() -> None:
    a, b = np.full((3, 8), 3.0), np.full((3, 8), 3.0)
    a[0, 1], b[1, 3], a[2, 0] = 5.0, 4.0, 1.0
    flags = np.zeros((3, 10))
    three = Pairs(
        a,
        b,
        flags,
        np.array([True, False, True]),
        np.array([1.0, -1.0, 1.0]),
        np.arange(3),
        ("x", "y", "z"),
        "human",
    )
    theta = np.array([-0.3, 0.25, 0, 0.5, 0, 0, 0, 0, 0.1])
    x = design(three, "none", np.zeros(0))
    # odds for a: 2 * 0.25 + 0.1 = 0.6; -1 * 0.5 - 0.1 = -0.6 (b was chosen); -2 * -0.3 + 0.1 = 0.7
    by_hand = (
        math.log(1 + math.exp(-0.6)) + math.log(1 + math.exp(-0.6)) + math.log(1 + math.exp(-0.7))
    ) / 3
    ridge = 0.5 * 0.01 * (0.3**2 + 0.25**2 + 0.5**2) + 0.5 * 1e-9 * 0.1**2
    assert mean_loss(x, three.chose_a, theta, penalties(9, 0.01, 1.0)) == pytest.approx(
        by_hand + ridge, abs=1e-12
    )


def test_the_minimum_is_one_for_autograd_too() -> None:
    data = pairs(600)
    fitted = fit(data, "flags", RIDGE)
    x = torch.from_numpy(design(data, "flags", fitted.centre))
    sign = torch.from_numpy(np.where(data.chose_a, 1.0, -1.0))
    ridge = torch.from_numpy(penalties(x.shape[1], *RIDGE))
    theta = torch.from_numpy(
        np.concatenate([fitted.w, fitted.u.ravel(), [fitted.left]])
    ).requires_grad_()
    loss = torch.nn.functional.softplus(-sign * (x @ theta)).mean() + 0.5 * (ridge * theta**2).sum()
    loss.backward()
    assert theta.grad is not None and float(theta.grad.abs().max()) < 1e-8
    start = torch.zeros_like(theta, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [start], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = (
            torch.nn.functional.softplus(-sign * (x @ start)).mean()
            + 0.5 * (ridge * start**2).sum()
        )
        value.backward()
        return value

    optimiser.step(closure)
    assert torch.allclose(start, theta, atol=1e-4)


def test_a_known_utility_is_found_again() -> None:
    data = pairs(20_000)
    fitted = fit(data, "flags", (1e-6, 1e-6))
    expected = np.array(
        [-0.3, 0.25, 0.0, 0.26 + 0.5 * data.flags[:, 0].mean(), -0.1, 0.1, 0.1, 0.05]
    )
    assert np.abs(fitted.w - expected).max() < 4 * fitted.standard_errors.max()
    assert fitted.u[3, 0] == pytest.approx(0.5, abs=0.06)
    assert np.abs(np.delete(fitted.u.ravel(), 30)).max() < 0.1
    assert fitted.left == pytest.approx(0.2, abs=0.06)


def test_turning_the_labels_round_negates_the_weights() -> None:
    data = pairs(800)
    one, other = fit(data, "topics", RIDGE), fit(data.swapped(), "topics", RIDGE)
    assert np.allclose(one.w, -other.w, atol=1e-7) and np.allclose(one.u, -other.u, atol=1e-7)


def test_exchanging_a_and_b_changes_nothing() -> None:
    data = pairs(800)
    other = Pairs(
        data.b,
        data.a,
        data.flags,
        ~data.chose_a,
        -data.left,
        data.scenario,
        data.names,
        data.source,
    )
    assert np.allclose(fit(data, "flags", RIDGE).w, fit(other, "flags", RIDGE).w, atol=1e-7)


def test_the_same_data_twice_changes_nothing_but_the_certainty() -> None:
    data = pairs(700)
    twice = data.take(np.tile(np.arange(len(data)), 2))
    one, two = fit(data, "flags", RIDGE), fit(twice, "flags", RIDGE)
    assert np.allclose(one.w, two.w, atol=1e-7) and np.allclose(one.u, two.u, atol=1e-7)
    assert np.allclose(two.standard_errors, one.standard_errors / math.sqrt(2), rtol=1e-5)
    assert choose_ridge(data, "flags")[0] == choose_ridge(twice, "flags")[0]


def test_training_is_deterministic() -> None:
    one, other = fit(pairs(500), "flags", RIDGE), fit(pairs(500), "flags", RIDGE)
    assert np.array_equal(one.w, other.w) and np.array_equal(one.u, other.u)


def test_context_helps_where_the_truth_depends_on_it() -> None:
    data, unseen = pairs(4000), pairs(8000, seed=9)
    losses = {}
    for kind in ("none", "flags"):
        ridge, _ = choose_ridge(data, kind)
        losses[kind] = log_loss(fit(data, kind, ridge).logits(unseen, kind), unseen.chose_a)
    assert losses["flags"] < losses["none"] - 0.005


@pytest.mark.parametrize("choice", [True, False])
def test_one_sided_choices_are_refused(choice: bool) -> None:
    data = pairs(50)
    one = Pairs(
        data.a,
        data.b,
        data.flags,
        np.full(50, choice),
        data.left,
        data.scenario,
        data.names,
        data.source,
    )
    with pytest.raises(JudgmentError, match="found only [ab]"):
        fit(one, "none", RIDGE)


def test_one_scenario_cannot_be_cross_validated() -> None:
    with pytest.raises(JudgmentError, match="at least 2 scenarios"):
        choose_ridge(pairs(50, scenarios=1), "none")


def test_a_scenario_is_in_one_fold_only() -> None:
    scenario = np.random.default_rng(0).integers(23, size=500)
    fold = folds(scenario)
    assert all(len(set(fold[scenario == one])) == 1 for one in range(23))
    assert set(fold) == {0, 1, 2, 3, 4}


def test_whole_scenarios_are_resampled() -> None:
    scenario = np.array([0, 0, 1, 2, 2, 2])
    weights = resample(scenario, 50, seed=0)
    assert np.array_equal(weights[:, 0], weights[:, 1]) and np.array_equal(
        weights[:, 3], weights[:, 5]
    )
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_the_ensemble_spreads_as_the_standard_errors_say() -> None:
    data = pairs(3000, scenarios=300)
    fitted = fit(data, "none", RIDGE)
    spread = np.std([one.w for one in bootstrap(data, "none", RIDGE, 100)], axis=0)
    assert np.allclose(spread, fitted.standard_errors, rtol=0.5)


def test_the_temperature_undoes_a_scale() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 40_000)
    chose_a = rng.random(40_000) < 1 / (1 + np.exp(-logits))
    assert temperature(3 * logits, chose_a) == pytest.approx(3, rel=0.05)


def test_topics_are_weights() -> None:
    flags = (np.random.default_rng(0).random((200, 10)) < 0.5).astype(float)
    topics = context_features("topics", flags)
    assert (topics > 0).all() and (topics.sum(axis=1) < 1).all()
    assert context_features("none", flags).shape == (200, 0)
    with pytest.raises(JudgmentError, match="context features"):
        context_features("mood", flags)

"""The measures and the evaluation: by hand where a hand can do it, and the whole protocol on a
small corpus.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from reward_fixture import made_calibration, made_judgments, made_model, make_corpus

from harmgym.errors import JudgmentError
from harmgym.preferences.analyse import analyse_pairs, save_picture
from harmgym.preferences.measures import calibration_error, correct, mean_interval, ratio_interval
from harmgym.preferences.simulate import simulate
from harmgym.preferences.training.card import card
from harmgym.preferences.training.crossval import agreement_ceiling, evaluate_file
from harmgym.preferences.training.evaluate import best_of, evaluate_simulated


def test_accuracy_by_hand() -> None:
    logits, chose_a = np.array([1.0, -1.0, 0.0, 2.0]), np.array([True, True, False, True])
    assert list(correct(logits, chose_a)) == [1.0, 0.0, 0.5, 1.0]


def test_the_interval_is_that_of_the_scenarios() -> None:
    rng = np.random.default_rng(0)
    of_scenario = rng.normal(0.6, 0.1, 400)
    values, scenario = np.repeat(of_scenario, 10), np.repeat(np.arange(400), 10)
    found = mean_interval(values, scenario)
    # 4,000 equal answers in 400 scenarios are 400 independent ones.
    expected = 1.96 * of_scenario.std() / np.sqrt(400)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)
    assert found.low < found.value < found.high


def test_a_ratio_has_both_halves_resampled() -> None:
    top, bottom = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])
    found = ratio_interval(top, bottom, np.arange(3))
    assert found == (0.5, 0.5, 0.5)


def test_calibration_error_by_hand() -> None:
    odds = np.log(0.8 / 0.2)
    chose_a = np.array([True] * 6 + [False] * 4)
    found = calibration_error(np.full(10, odds), chose_a, np.arange(10))
    # Ten bins of one: each is off by 0.2 (right, 6 times) or 0.8 (wrong, 4 times).
    assert found.value == pytest.approx((6 * 0.2 + 4 * 0.8) / 10)


def test_honest_probabilities_have_a_small_calibration_error() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, 50_000)
    chose_a = rng.random(50_000) < 1 / (1 + np.exp(-logits))
    scenario = rng.integers(100, size=50_000)
    assert calibration_error(logits, chose_a, scenario).value < 0.01
    assert calibration_error(3 * logits, chose_a, scenario).value > 0.1


def test_the_truth_picks_the_best_of_ten_and_its_opposite_the_worst() -> None:
    rng = np.random.default_rng(2)
    truth, scenario = rng.normal(size=60), np.repeat(np.arange(10), 6)
    assert best_of(truth, truth, scenario)["share"]["value"] == pytest.approx(1)
    assert best_of(-truth, truth, scenario)["gain"]["value"] < 0
    assert best_of(truth, truth, scenario)["win"]["value"] > 0.6


@pytest.mark.slow
def test_the_protocol_holds_on_a_made_corpus() -> None:
    report = evaluate_simulated(made_model(), make_corpus(60))
    assert {"accuracy", "ceiling", "ratio", "ece", "rows", "effects", "source"} <= set(report)
    assert report["source"] == "simulated"
    assert report["ratio"] == pytest.approx(report["accuracy"] / report["ceiling"])
    assert report["accuracy"] > 0.6 and report["ece"] < 0.05
    by_name = {row["name"]: row for row in report["rows"]}
    assert by_name["length only"]["accuracy"]["value"] < 0.56, (
        "the made corpus has no meaning in its words"
    )
    assert by_name["global attributes, measured"]["accuracy"]["value"] > 0.62
    truth = by_name["true weights of the average person"]
    assert (
        truth["accuracy"]["value"] >= by_name["this model, measured"]["accuracy"]["value"] - 0.005
    )
    assert truth["best_of_10"]["share"]["value"] == pytest.approx(1)
    assert report["moderations"]["published"] == 51 and report["moderations"]["recovered"] > 34
    assert len(report["moderations"]["contradicted"]) <= 1, "one of 51 intervals of 95 % may miss"
    text = card(made_model(), report)
    assert "judgments are simulated" in text and "length only" in text and "contradicted" in text
    json.dumps(report)


def test_a_file_of_judgments_is_cross_validated() -> None:
    corpus = make_corpus(60)
    judgments = list(simulate(corpus, made_calibration(corpus), 600, seed=8).judgments())
    report = evaluate_file(made_model(), judgments)
    names = [row["name"] for row in report["rows"]]
    assert "global attributes, measured" in names and "text only" in names
    assert report["accuracy"] > 0.55
    assert report["protocol"]["levels"] == "known"


def test_levels_that_nobody_measured_are_estimated_and_said_to_be() -> None:
    report = evaluate_file(made_model(), made_judgments(12, 6))
    assert report["protocol"]["levels"].startswith("estimated from text for 144 of 144")
    assert report["source"] == "simulated"
    text_row = next(row for row in report["rows"] if row["name"] == "text only")
    assert text_row["accuracy"]["value"] > 0.95, "one word decides, and the text head reads words"


def test_too_few_judgments_are_refused() -> None:
    with pytest.raises(JudgmentError, match="at least 50 judgments"):
        evaluate_file(made_model(), made_judgments(5, 2))


def test_a_ceiling_needs_pairs_judged_twice() -> None:
    corpus = make_corpus(60)
    assert agreement_ceiling(made_judgments(12, 6)) is None
    many = list(simulate(corpus, made_calibration(corpus), 1200, seed=8, double=400).judgments())
    ceiling = agreement_ceiling(many)
    assert ceiling is not None and 0.6 < ceiling < 0.8


def test_the_published_analysis_finds_what_was_put_in(tmp_path: object) -> None:
    corpus = make_corpus(120)
    report = analyse_pairs(
        simulate(corpus, made_calibration(corpus), 8000, seed=2).pairs("ratings"), resamples=40
    )
    for row in report["main_effects"]:
        assert abs(row["coefficient"] - row["published"]) < 0.08, row
    clear = {row["attribute"]: row["p"] for row in report["main_effects"]}
    assert clear["comprehensiveness"] < 0.001 and clear["speed"] < 0.001
    known = [row for row in report["moderations"] if row["published"] is not None]
    assert len(known) > 40 and all(row["low"] <= row["coefficient"] <= row["high"] for row in known)
    found = np.array([[row["published"], row["coefficient"]] for row in known])
    assert np.corrcoef(found.T)[0, 1] > 0.2
    file = tmp_path / "analysis.png"  # type: ignore[operator]
    save_picture(report, file)
    assert file.stat().st_size > 20_000


def test_differences_without_a_constant_are_the_conditional_model() -> None:
    conditional = pytest.importorskip("statsmodels.discrete.conditional_models")
    corpus = make_corpus(40)
    pairs = simulate(corpus, made_calibration(corpus), 400, seed=2).pairs("ratings")
    chosen = np.stack([pairs.chose_a, ~pairs.chose_a], axis=1).ravel().astype(float)
    options = np.stack([pairs.a, pairs.b], axis=1).reshape(-1, 8)
    groups = np.repeat(np.arange(len(pairs)), 2)
    expected = conditional.ConditionalLogit(chosen, options, groups=groups).fit(disp=0)
    found = analyse_pairs(pairs, resamples=5)["main_effects"]
    assert np.allclose([row["coefficient"] for row in found], expected.params, atol=1e-4)
    assert np.allclose([row["standard_error"] for row in found], expected.bse, rtol=1e-3)

"""The model that ships, against the targets it has to reach; judged afresh by the second simulated
population.
"""

from __future__ import annotations

import pytest

from harmgym.preferences.annotators import Calibration, calibrate
from harmgym.preferences.corpus import Corpus, default_corpus
from harmgym.preferences.moderation import moderations
from harmgym.preferences.simulate import simulate
from harmgym.preferences.training.evaluate import (
    MODERATION_COUNT,
    TEST_COUNT,
    TEST_SEED,
    TRAIN_SEED,
    effects,
    effects_on_ratings,
    headline,
    paired,
)
from harmgym.reward.published import KAPPA
from harmgym.reward.storage import DEFAULT, default_model


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return default_corpus()


@pytest.fixture(scope="module")
def calibration(corpus: Corpus) -> Calibration:
    return calibrate(corpus)


def test_it_says_that_it_is_simulated() -> None:
    model = default_model()
    assert model.info.source == "simulated"
    card = (DEFAULT / "card.md").read_text(encoding="utf-8")
    assert model.digest[:12] in card and "**The judgments are simulated.**" in card
    assert sum(file.stat().st_size for file in DEFAULT.iterdir()) < 100_000


def test_the_people_agree_as_in_the_study(calibration: Calibration) -> None:
    assert calibration.kappa == pytest.approx(KAPPA, abs=0.005) and calibration.noise > 0


def test_it_is_near_the_ceiling_and_calibrated_on_held_out_scenarios(
    corpus: Corpus, calibration: Calibration
) -> None:
    test = simulate(corpus.split("heldout"), calibration, TEST_COUNT, TEST_SEED)
    found = headline(
        default_model(),
        test.pairs(),
        test.true_logits(personal=False),
        test.true_logits(personal=True),
    )
    assert found["ratio"] >= 0.95
    assert found["ece"] <= 0.05
    assert found["intervals"]["personal_ratio"]["value"] >= 0.92


def test_the_main_effects_are_inside_the_published_intervals(
    corpus: Corpus, calibration: Calibration
) -> None:
    model = default_model()
    learned = effects(model.w, model.standard_errors)
    assert all(one["inside"] for one in learned.values()), learned
    rated = effects_on_ratings(
        simulate(corpus.split("train"), calibration, 1150, TRAIN_SEED).pairs("ratings"),
        model.info.context,
    )
    assert all(one["inside"] for one in rated.values()), rated


@pytest.mark.slow
def test_context_beats_global_weights_at_five_thousand_judgments(
    corpus: Corpus, calibration: Calibration
) -> None:
    found = paired(corpus, calibration)["topics"]
    assert found["loss_saved"]["low"] > 0
    assert found["expected_accuracy_gain"]["low"] > 0


@pytest.mark.slow
def test_the_signs_of_the_moderations_come_back(corpus: Corpus, calibration: Calibration) -> None:
    found = moderations(
        simulate(corpus, calibration, MODERATION_COUNT, TRAIN_SEED).pairs("ratings")
    )
    assert found["recovered"] >= 0.8 * found["published"], found["entries"]
    assert found["clear"] >= 5 and not found["contradicted"]

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

# Computed by the reader of numbers that was ours, before safetensors' own: context, attributes of
# two recoveries; value, lower bound and spread of the first, preference for it and its lower bound.
SCORES = [
    (
        [],
        [5, 4, 5, 3, 4, 5, 4, 3],
        [3] * 8,
        (-0.3167668387734873, -0.3834848691089118, 0.09113039881002132),
        (0.42606728342498373, 0.4107992529183056),
    ),
    (
        ["severe", "ongoing"],
        [2, 5, 4, 5, 1, 3, 2, 4],
        [4] * 8,
        (1.2267732253603394, 1.0589567098839385, 0.11938369413894087),
        (0.7315137217455809, 0.7060649536314142),
    ),
    (
        ["public", "sensitive_data", "vulnerable_person"],
        [1.5, 2.25, 3.75, 4.5, 2, 5, 1, 3.5],
        [5] * 8,
        (0.7299432251082387, 0.546564236703316, 0.15863253502614874),
        (0.6045068762177629, 0.5485777517771152),
    ),
]


@pytest.mark.parametrize(("context", "first", "second", "scored", "preferred"), SCORES)
def test_its_numbers_are_read_exactly(
    context: list[str],
    first: list[float],
    second: list[float],
    scored: tuple[float, ...],
    preferred: tuple[float, ...],
) -> None:
    model = default_model()
    score, preference = model.score_recovery(context, first), model.prefer(context, first, second)
    assert (score.value, score.lower, score.sd) == pytest.approx(scored, abs=1e-12)
    assert (preference.probability, preference.lower) == pytest.approx(preferred, abs=1e-12)


def test_a_plan_is_scored_as_before() -> None:
    plan = "Stop the job at once, restore the file from the copy and tell the team."
    score = default_model().score_plan({"severe": True}, plan)
    expected = (0.7051474683097672, 0.6056260534924572, 0.09185027764318131)
    assert (score.value, score.lower, score.sd) == pytest.approx(expected, abs=1e-12)
    assert score.digest == "ea7155493d7acbd40886b71faa55c0f55b7ad98567cdd3f843abaa6462ba1455"


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

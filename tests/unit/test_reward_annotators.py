"""The simulated people: fitted to the published figures, repeatable, and never the same twice by
accident.
"""

from __future__ import annotations

import numpy as np
import pytest
from reward_fixture import made_calibration, make_corpus

from harmgym.errors import JudgmentError
from harmgym.preferences.analyse import main_effects
from harmgym.preferences.annotators import Calibration, all_pairs, calibrate, draw
from harmgym.preferences.simulate import simulate
from harmgym.preferences.statistics import cohen_kappa
from harmgym.reward.context import EVIDENCE, MATRIX, MODERATIONS
from harmgym.reward.published import TABLE_4, TABLE_5, TOPICS
from harmgym.tasks.rubric import ATTRIBUTES
from harmgym.tasks.spec import CONTEXT_FLAGS


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(make_corpus(120), pairs=1000)


def test_calibration_reaches_the_published_kappa(calibration: Calibration) -> None:
    assert calibration.kappa == pytest.approx(0.15, abs=0.005)
    assert 0 < calibration.noise < 3 and calibration.gain > 1


def test_two_simulated_people_agree_as_two_people_did(calibration: Calibration) -> None:
    made = simulate(make_corpus(120), calibration, 20_000, seed=3, double=10_000)
    first = made.chose_a[:10_000] ^ (made.plan_a[:10_000] > made.plan_b[:10_000])
    second = made.chose_a[-10_000:] ^ (made.plan_a[-10_000:] > made.plan_b[-10_000:])
    assert (made.person[:10_000] != made.person[-10_000:]).all()
    # The standard error of kappa on 10,000 pairs is about 0.01.
    assert cohen_kappa(first, second) == pytest.approx(0.15, abs=0.03)


def test_the_ratings_give_table_4_back(calibration: Calibration) -> None:
    rows = main_effects(simulate(make_corpus(120), calibration, 20_000, seed=4).pairs("ratings"))
    for row in rows:
        assert row["coefficient"] == pytest.approx(
            TABLE_4[row["attribute"]].coefficient, abs=0.045
        ), row["attribute"]


def test_the_study_has_its_size() -> None:
    made = simulate(make_corpus(120), made_calibration(make_corpus(120)), 1150, seed=0)
    assert len(made) == 1150 and len(made.population) == 230
    assert np.array_equal(np.bincount(made.person), np.full(230, 5))
    places = np.sort(np.stack([made.plan_a, made.plan_b]), axis=0).T
    _, counts = np.unique(places, axis=0, return_counts=True)
    assert (counts == 2).sum() == 130 and counts.max() == 2


def test_equal_seeds_are_equal_people_and_other_seeds_others() -> None:
    corpus = make_corpus(30)
    one, same, other = (simulate(corpus, made_calibration(corpus), 200, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.chose_a, same.chose_a) and np.array_equal(
        one.ratings_a, same.ratings_a
    )
    assert not np.array_equal(one.population.personal[:40], other.population.personal[:40])


def test_people_lean_to_the_left_one() -> None:
    corpus = make_corpus(120)
    made = simulate(corpus, made_calibration(corpus), 40_000, seed=5)
    share = np.mean(made.chose_a == (made.left > 0))
    assert 0.51 < share < 0.54


def test_ratings_are_whole_points_from_one_to_five() -> None:
    corpus = make_corpus(30)
    made = simulate(corpus, made_calibration(corpus), 500, seed=5)
    assert set(np.unique(made.ratings_a)) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert 0.5 < np.corrcoef(made.ratings_a.ravel(), corpus.levels[made.plan_a].ravel())[0, 1] < 1


def test_people_differ() -> None:
    people = draw(made_calibration(make_corpus(10)), seed=0)
    assert people.personal.std() == pytest.approx(0.10, rel=0.1)
    assert people.lapse.mean() == pytest.approx(0.04, rel=0.4) and (people.lapse < 1).all()


def test_pairs_are_of_one_scenario() -> None:
    corpus = make_corpus(5)
    rows = all_pairs(corpus)
    assert len(rows) == 5 * 15
    assert (corpus.scenario_of[rows[:, 0]] == corpus.scenario_of[rows[:, 1]]).all()


@pytest.mark.parametrize(("count", "double"), [(5, None), (100, 60), (100, -1)])
def test_impossible_sizes_are_refused(count: int, double: int | None) -> None:
    corpus = make_corpus(10)
    with pytest.raises(JudgmentError, match="needed"):
        simulate(corpus, made_calibration(corpus), count, 0, double)


def test_every_entry_of_the_mapping_has_its_reason() -> None:
    for topic, row in EVIDENCE.items():
        assert topic in TOPICS and row
        for flag, (weight, reason) in row.items():
            assert flag in CONTEXT_FLAGS and weight and len(reason.split()) >= 3
    assert set(EVIDENCE) == set(TOPICS)
    assert np.linalg.matrix_rank(MATRIX) == len(TOPICS), "topics can be told apart by the flags"


def test_the_table_of_moderations_is_the_published_one() -> None:
    assert (
        MODERATIONS.shape == (8, 10)
        and np.count_nonzero(MODERATIONS) == sum(map(len, TABLE_5.values())) == 51
    )
    assert MODERATIONS[ATTRIBUTES.index("communication"), list(TOPICS).index("SM")] == -0.125

"""The shipped text scenarios: enough of them, varied, not leaking from train to held-out, levels
not collinear.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest

from harmgym.preferences.corpus import Corpus, CorpusScenario, default_corpus
from harmgym.tasks.catalogue import list_tasks, load_task
from harmgym.tasks.rubric import ATTRIBUTES
from harmgym.tasks.spec import CONTEXT_FLAGS

GRAM = 8


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return default_corpus()


def texts(scenario: CorpusScenario) -> Iterator[str]:
    yield scenario.situation
    yield from scenario.state
    yield from scenario.constraints
    for recovery in scenario.recoveries:
        yield recovery.text
        yield recovery.why


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def grams(scenarios: list[CorpusScenario]) -> dict[tuple[str, ...], str]:
    found: dict[tuple[str, ...], str] = {}
    for scenario in scenarios:
        for text in texts(scenario):
            said = words(text)
            found.update(
                {tuple(said[at : at + GRAM]): scenario.id for at in range(len(said) - GRAM + 1)}
            )
    return found


def test_there_is_enough_of_it(corpus: Corpus) -> None:
    assert len(corpus.scenarios) >= 120
    assert len({s.domain for s in corpus.scenarios}) >= 12
    kinds = {kind for s in corpus.scenarios for kind in s.harm_kind.split("/")}
    assert {
        "availability",
        "financial",
        "integrity",
        "misuse",
        "security",
        "privacy",
        "reputation",
        "autonomy",
    } <= kinds


def test_about_a_quarter_is_held_out_with_two_domains_as_a_whole(corpus: Corpus) -> None:
    held = [s for s in corpus.scenarios if s.split == "heldout"]
    assert 0.2 <= len(held) / len(corpus.scenarios) <= 0.3
    train = {s.domain for s in corpus.scenarios if s.split == "train"}
    whole = {s.domain for s in held} - train
    assert {"education", "urban_routing"} <= whole
    assert len({s.domain for s in held} & train) >= 8


def test_no_sentence_is_used_twice(corpus: Corpus) -> None:
    seen: dict[str, list[str]] = defaultdict(list)
    for scenario in corpus.scenarios:
        for text in texts(scenario):
            for sentence in re.split(r"(?<=[.!?;:])\s+", text):
                if len(words(sentence)) > GRAM:
                    seen[" ".join(words(sentence))].append(scenario.id)
    assert {sentence: ids for sentence, ids in seen.items() if len(ids) > 1} == {}


def test_train_and_held_out_share_no_wording(corpus: Corpus) -> None:
    train = grams([s for s in corpus.scenarios if s.split == "train"])
    held = grams([s for s in corpus.scenarios if s.split == "heldout"])
    assert len(train) > 10_000
    assert {" ".join(gram): (train[gram], held[gram]) for gram in train.keys() & held.keys()} == {}


def test_every_level_is_used_and_no_two_attributes_say_the_same(corpus: Corpus) -> None:
    for column, name in enumerate(ATTRIBUTES):
        shares = np.array([(corpus.levels[:, column] == level).mean() for level in range(1, 6)])
        assert (shares >= 0.01).all(), f"{name}: shares of the levels 1..5 are {shares.round(3)}"
    related = np.abs(np.corrcoef(corpus.levels.T)) - np.eye(len(ATTRIBUTES))
    assert related.max() < 0.6, f"largest |r| between attributes is {related.max():.2f}"


def test_no_plan_beats_another_of_its_scenario_in_name_only(corpus: Corpus) -> None:
    for scenario in corpus.scenarios:
        levels = [tuple(recovery.attributes.vector()) for recovery in scenario.recoveries]
        assert len(set(levels)) == len(levels), (
            f"{scenario.id}: two recoveries have the same eight levels"
        )
        said = [recovery.text for recovery in scenario.recoveries]
        assert len(set(said)) == len(said), f"{scenario.id}: two recoveries have the same text"


def test_length_does_not_tell_quality(corpus: Corpus) -> None:
    length = np.array([len(words(plan.text)) for plan in corpus.plans], dtype=float)
    assert length.min() >= 8, "a plan says what is done, in a sentence at least"
    assert abs(np.corrcoef(length, corpus.levels.sum(axis=1))[0, 1]) < 0.2


def test_every_flag_is_set_now_and_then_and_flags_are_told_apart(corpus: Corpus) -> None:
    shares = corpus.flags.mean(axis=0)
    assert ((shares >= 0.1) & (shares <= 0.6)).all(), dict(
        zip(CONTEXT_FLAGS, shares.round(2), strict=True)
    )
    related = np.abs(np.corrcoef(corpus.flags.T)) - np.eye(len(CONTEXT_FLAGS))
    assert related.max() < 0.6


def test_the_benchmark_states_are_not_in_it(corpus: Corpus) -> None:
    tasks = [load_task(name) for name in list_tasks()]
    told = {
        name: words(f"{task.spec.summary} {task.spec.instruction}")
        for name, task in zip(list_tasks(), tasks, strict=True)
    }
    states = {
        tuple(said[at : at + GRAM]): name
        for name, said in told.items()
        for at in range(len(said) - GRAM + 1)
    }
    assert len(states) > 100
    ours = grams(list(corpus.scenarios))
    assert {
        " ".join(gram): (states[gram], ours[gram]) for gram in states.keys() & ours.keys()
    } == {}

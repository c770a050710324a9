"""A small corpus built in memory, for tests that must not depend on the shipped texts."""

from __future__ import annotations

import numpy as np

from harmgym.preferences.annotators import Calibration, Habits
from harmgym.preferences.corpus import Corpus, CorpusRecovery, CorpusScenario
from harmgym.preferences.judgments import Judgment, RecoveryText, ScenarioText
from harmgym.preferences.simulate import simulate
from harmgym.preferences.training.train import describe, train
from harmgym.reward.context import topic_weights
from harmgym.reward.model import PreferenceModel
from harmgym.tasks.rubric import Attributes
from harmgym.tasks.spec import CONTEXT_FLAGS, Context


def make_corpus(scenarios: int = 60, plans: int = 6, seed: int = 0) -> Corpus:
    """Return scenarios with random flags (about a third set) and plans of random integer levels."""
    rng = np.random.default_rng(seed)
    return Corpus.of(_scenario(at, plans, rng) for at in range(scenarios))


def _scenario(at: int, plans: int, rng: np.random.Generator) -> CorpusScenario:
    context = Context(**{flag: bool(rng.random() < 0.35) for flag in CONTEXT_FLAGS})
    return CorpusScenario(
        id=f"made-{at}",
        domain="made",
        harm_kind="made",
        split="heldout" if at % 4 == 3 else "train",
        situation=f"Something went wrong in case {at}.",
        state=(f"Fact {at}.",),
        context=context,
        recoveries=tuple(
            CorpusRecovery(
                id=f"made-{at}-{plan}",
                text=f"Plan {plan} of case {at}. " + "Then go on. " * int(rng.integers(1, 6)),
                attributes=Attributes.of(rng.integers(1, 6, 8).astype(float)),
                why="Attributes drawn at random.",
            )
            for plan in range(plans)
        ),
    )


def made_judgments(scenarios: int = 10, each: int = 4) -> list[Judgment]:
    """Return judgments in which the plan that says "quick" always wins, in random order."""
    rng = np.random.default_rng(3)
    found = []
    for at in range(scenarios * each):
        texts = [f"A quick way number {at % 7}.", f"A slow way number {at % 5}."]
        order = [0, 1] if rng.random() < 0.5 else [1, 0]
        found.append(
            Judgment(
                scenario=ScenarioText(id=f"case-{at // each}", text="A file was lost."),
                a=RecoveryText(id=f"plan-{at}-{order[0]}", text=texts[order[0]]),
                b=RecoveryText(id=f"plan-{at}-{order[1]}", text=texts[order[1]]),
                choice="a" if order[0] == 0 else "b",
                annotator="made",
                source="simulated",
            )
        )
    return found


def made_calibration(corpus: Corpus) -> Calibration:
    """Return a calibration with plausible numbers, without fitting them."""
    centre = tuple(float(value) for value in topic_weights(corpus.flags).mean(axis=0))
    return Calibration(
        noise=0.7,
        gain=1.2,
        centre=centre,
        kappa=0.15,
        target=0.15,
        habits=Habits(),
        corpus=corpus.digest,
    )


def made_model(count: int = 1150) -> PreferenceModel:
    """Return a model trained on simulated judgments of the small corpus."""
    corpus = make_corpus(60)
    data = simulate(corpus, made_calibration(corpus), count, seed=0)
    return train(data.judged(), describe(data.pairs()), contexts=("topics",), members=16)

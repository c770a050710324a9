"""A small corpus built in memory, for tests that must not depend on the shipped texts."""

from __future__ import annotations

import numpy as np

from harmgym.reward.corpus import Corpus, CorpusRecovery, CorpusScenario
from harmgym.reward.levels import Levels
from harmgym.task import CONTEXT_FLAGS, Context


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
                attributes=Levels.of(rng.integers(1, 6, 8).astype(float)),
                why="Levels drawn at random.",
            )
            for plan in range(plans)
        ),
    )

"""Do judgments show the signs of the published moderations (Table 5)?

Fitted to the raters' own ratings, as in the paper, all dimensions and topics together:

    weight of dimension k in a context =
        w_k + m_k * (sum of the topics' weights) + sum over topics of v_kt * (topic's weight)

with a ridge on v alone, chosen on scenarios left out. So the topics of one dimension lean on their
common m_k where the data say little (partial pooling), and an entry is m_k + v_kt. Single entries
are small against what even 20,000 judgments resolve; each comes with an interval from resampling
whole scenarios.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from harmgym.preferences.features import Pairs, folds
from harmgym.preferences.training.fit import SIZE, design, log_loss, resample, solve
from harmgym.reward.context import MODERATIONS, TOPIC_NAMES, context_features
from harmgym.reward.published import TABLE_5
from harmgym.tasks.rubric import ATTRIBUTES

Array = NDArray[np.float64]
RIDGES = (3e-3, 1e-2, 3e-2)


class Entry(TypedDict):
    """One published moderation and what was learned: `clear` where the interval excludes zero."""

    attribute: str
    topic: str
    published: float
    learned: float
    low: float
    high: float
    recovered: bool
    clear: bool


class Moderations(TypedDict):
    """Counts of entries, and every entry; `contradicted` are clear with the other sign."""

    judgments: int
    ridge: float
    published: int
    recovered: int
    clear: int
    clear_and_right: int
    contradicted: list[str]
    entries: list[Entry]


def moderations(pairs: Pairs, resamples: int = 200) -> Moderations:
    """Fit the topic-conditional weights and compare their signs with Table 5."""
    x = _design(pairs)
    ridge = _choose(x, pairs)
    penalty = _penalty(ridge)
    theta, curvature = solve(x, pairs.chose_a, np.ones((1, len(pairs))), penalty[None])
    members = _entries(_one_step(x, pairs, theta[0], curvature[0], penalty, resamples))
    low, high = np.quantile(members, [0.025, 0.975], axis=0)
    point = _entries(theta)[0]
    entries = [
        _entry(
            name, topic, *(float(table[row, column]) for table in (MODERATIONS, point, low, high))
        )
        for row, name in enumerate(ATTRIBUTES)
        for column, topic in enumerate(TOPIC_NAMES)
        if topic in TABLE_5[name]
    ]
    clear = [entry for entry in entries if entry["clear"]]
    return {
        "judgments": len(pairs),
        "ridge": ridge,
        "published": len(entries),
        "recovered": sum(entry["recovered"] for entry in entries),
        "clear": len(clear),
        "clear_and_right": sum(entry["recovered"] for entry in clear),
        "contradicted": [
            f"{entry['attribute']} in {entry['topic']}" for entry in clear if not entry["recovered"]
        ],
        "entries": entries,
    }


def _design(pairs: Pairs) -> Array:
    """Return rows (n, 8 + 8 + 80 + 1): differences, times all topics together, times each topic,
    left.
    """
    centre = context_features("topics", pairs.flags).mean(axis=0)
    x = design(pairs, "topics", centre)
    together = (context_features("topics", pairs.flags) - centre).sum(axis=1, keepdims=True)
    return np.concatenate([x[:, :SIZE], x[:, :SIZE] * together, x[:, SIZE:]], axis=1)


def _penalty(ridge: float) -> Array:
    return np.concatenate(
        [np.full(SIZE, 1e-6), np.full(SIZE, 1e-5), np.full(SIZE * len(TOPIC_NAMES), ridge), [1e-9]]
    )


def _choose(x: Array, pairs: Pairs) -> float:
    fold = folds(pairs.scenario)
    held = np.stack([(fold != one).astype(np.float64) for one in np.unique(fold)])
    found: dict[float, float] = {}
    theta: Array | None = None
    for ridge in RIDGES:
        theta, _ = solve(
            x, pairs.chose_a, held, np.repeat(_penalty(ridge)[None], len(held), axis=0), theta
        )
        logits = (x[:, :-1] @ theta[:, :-1].T)[np.arange(len(x)), fold]
        found[ridge] = log_loss(logits, pairs.chose_a)
    return min(found, key=lambda ridge: found[ridge])


def _entries(theta: Array) -> Array:
    """Return m + v (B, 8, topics) from parameters (B, p)."""
    common = theta[:, SIZE : 2 * SIZE, None]
    single = theta[:, 2 * SIZE : -1].reshape(len(theta), SIZE, len(TOPIC_NAMES))
    entries: Array = common + single
    return entries


def _one_step(
    x: Array, pairs: Pairs, theta: Array, curvature: Array, penalty: Array, resamples: int
) -> Array:
    """Return bootstrap parameters (resamples, p) by one Newton step from the full fit, whole
    scenarios resampled.
    """
    chance = 1.0 / (1.0 + np.exp(-x @ theta))
    scores = x * (chance - pairs.chose_a)[:, None]
    weights = resample(pairs.scenario, resamples, seed=7)
    share = weights / weights.sum(axis=1, keepdims=True)
    members: Array = theta - np.linalg.solve(curvature, (share @ scores + penalty * theta).T).T
    return members


def _entry(name: str, topic: str, truth: float, learned: float, low: float, high: float) -> Entry:
    return {
        "attribute": name,
        "topic": topic,
        "published": truth,
        "learned": learned,
        "low": low,
        "high": high,
        "recovered": bool(np.sign(learned) == np.sign(truth)),
        "clear": bool(low > 0 or high < 0),
    }

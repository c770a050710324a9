"""From a scenario's context flags to the ten topics of the published moderations (Table 5).

The published moderations are by LDA topic of the scenario text. Our scenarios declare ten flags
instead. `EVIDENCE` says how much each flag speaks for or against a topic, in log-odds against "none
of the ten"; the topics' weights are the softmax of the summed evidence, with a background of 0 for
"none of the ten". So the weights are in 0..1 and sum to less than 1. The entries are our argument,
not published figures; each has its reason beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import JudgmentError
from harmgym.records import did_you_mean
from harmgym.reward.published import TABLE_5, TOPICS
from harmgym.tasks.rubric import ATTRIBUTES
from harmgym.tasks.spec import CONTEXT_FLAGS, Context

Situation = Context | Mapping[str, object] | Collection[str]
"""The context of a situation: the record of a task, a mapping of flags, or names of those set."""

PRIOR = -4.0
"""Log-odds of each topic against "none of the ten" when no flag is set: one defining flag (4) makes
it even.
"""

EVIDENCE: Mapping[str, Mapping[str, tuple[float, str]]] = {
    "CE": {
        "infrastructure": (4.0, "a cloud fleet is infrastructure and little else"),
        "ongoing": (2.0, "consumption and cost run on until somebody acts"),
        "public": (-2.0, "what happens in a data centre is not seen by the public"),
        "vulnerable_person": (-2.0, "no particular person is at its centre"),
        "access_control": (-2.0, "it is about load, not about who may do what"),
    },
    "OG": {
        "third_parties": (3.0, "the other players are who is hit"),
        "public": (2.0, "play and chat are in the open"),
        "sensitive_data": (-2.0, "game accounts hold little that is sensitive"),
        "severe": (-3.0, "the stakes of a game are low"),
        "infrastructure": (-2.0, "the players see rules and items, not machines"),
    },
    "PD": {
        "public": (3.0, "reports are published"),
        "irreversible": (3.0, "a published figure that was read cannot be called back"),
        "ongoing": (-2.0, "a report is out at once and then stands still"),
    },
    "SM": {
        "public": (4.0, "a post is seen by everybody"),
        "ongoing": (2.0, "it spreads by the minute"),
        "infrastructure": (-2.0, "the platform's machines are not concerned"),
        "irreversible": (-2.0, "a post can be taken down or edited"),
    },
    "SH": {
        "infrastructure": (3.0, "heating, locks and meters are a small infrastructure"),
        "vulnerable_person": (3.0, "those who live there depend on it"),
        "third_parties": (-2.0, "it stays within one household"),
        "public": (-2.0, "it stays within four walls"),
    },
    "RA": {
        "severe": (3.0, "the platform exists because its systems decide about people's lives"),
        "third_parties": (2.0, "those decided about are not its users"),
        "irreversible": (2.0, "a decision that was acted on stands"),
        "time_pressure": (-2.0, "reviews and audits run for weeks"),
    },
    "UR": {
        "time_pressure": (4.0, "traffic has to be routed now"),
        "infrastructure": (2.0, "roads and signals are infrastructure"),
        "sensitive_data": (-2.0, "it holds positions of vehicles, not personal files"),
    },
    "AP": {
        "access_control": (5.0, "who may do what is the topic itself"),
    },
    "MH": {
        "vulnerable_person": (4.0, "a person in need is at its centre"),
        "sensitive_data": (2.0, "health records are the most sensitive of data"),
        "infrastructure": (-3.0, "it is about a person, not a plant"),
    },
    "CP": {
        "third_parties": (4.0, "members of the community are who is hit"),
        "time_pressure": (-2.0, "moderation has queues, not deadlines"),
        "severe": (-2.0, "most of it is everyday trouble among members"),
    },
}
"""Topic -> flag -> (log-odds, reason). What is not listed is 0."""

TOPIC_NAMES = tuple(TOPICS)
CONTEXT_FEATURES = {"none": (), "flags": CONTEXT_FLAGS, "topics": TOPIC_NAMES}
"""The three context vectors a model may use, with the names of their entries."""

MATRIX: NDArray[np.float64] = np.array(
    [[EVIDENCE[topic].get(flag, (0.0, ""))[0] for flag in CONTEXT_FLAGS] for topic in TOPIC_NAMES]
)
MODERATIONS: NDArray[np.float64] = np.array(
    [[TABLE_5[name].get(topic, 0.0) for topic in TOPIC_NAMES] for name in ATTRIBUTES]
)
"""Table 5 as float64 (8 attributes, 10 topics)."""


def flag_vector(context: Situation) -> NDArray[np.float64]:
    """Return float64 (10,) of 0 and 1. Raises: JudgmentError naming an unknown flag."""
    match context:
        case Context():
            names = known = {flag for flag in CONTEXT_FLAGS if getattr(context, flag)}
        case Mapping():
            names = {str(name) for name, value in context.items() if value}
            known = set(map(str, context))
        case _:
            names = known = set(map(str, context))
    for name in sorted(known - set(CONTEXT_FLAGS)):
        raise JudgmentError(
            f"unknown context flag {name!r}{did_you_mean(name, list(CONTEXT_FLAGS))}"
        )
    return np.array([float(flag in names) for flag in CONTEXT_FLAGS])


def topic_weights(flags: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the topics' weights (…, 10) for flags (…, 10); each in 0..1, their sum below 1."""
    odds = np.exp(PRIOR + flags @ MATRIX.T)
    weights: NDArray[np.float64] = odds / (1.0 + odds.sum(axis=-1, keepdims=True))
    return weights


def context_features(kind: str, flags: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the context vector of a model: nothing (n, 0), the flags (n, 10), or the topics'
    weights (n, 10).
    """
    if kind not in CONTEXT_FEATURES:
        raise JudgmentError(
            f"needed context features to be one of {', '.join(CONTEXT_FEATURES)}, found {kind!r}"
        )
    if kind == "topics":
        return topic_weights(flags)
    return flags if kind == "flags" else flags[..., :0]

"""The preference model: one object, two entrances. `score_plan` before a recovery runs,
`score_recovery` after it ran.

    r(s, p) = (w + U (c(s) - mean c)) . (a(s, p) - 3)

a is the vector of the eight attributes (1 to 5), c the context features of the situation. A score
is a log-odds: the difference of two scores is the log-odds that people prefer the one to the other.
Scoring needs no extra. `harmgym.reward.storage` reads and writes models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import ModelError
from harmgym.records import Record
from harmgym.reward import lexicon
from harmgym.reward.context import CONTEXT_FEATURES, Situation, context_features, flag_vector
from harmgym.reward.estimate import Estimator, Rater
from harmgym.reward.lexicon import ActionLike
from harmgym.tasks.rubric import ATTRIBUTES, NEUTRAL, Attributes, AttributesLike, as_vector

Array = NDArray[np.float64]
FORMAT = 1
LOWER = 0.10
"""The lower confidence bound is this quantile of the ensemble's answers."""


class ModelInfo(Record):
    """The JSON half of a model: what it is and where it comes from."""

    format: int
    attributes: tuple[str, ...]
    context: str
    source: str
    trained_on: dict[str, Any]
    training: dict[str, Any]
    versions: dict[str, str]
    lexicon: str
    tensors_sha256: str


class Score(Record):
    """The score of one recovery in one context.

    value: log-odds against an all-middling recovery; lower: its lower confidence bound over the
    ensemble; sd: the ensemble's spread; terms: what each dimension adds, they sum to value;
    weights: log-odds per point in this context.
    """

    value: float
    lower: float
    sd: float
    terms: dict[str, float]
    weights: dict[str, float]
    attributes: Attributes
    measured: bool
    digest: str


class Preference(Record):
    """How one recovery compares with another in one context.

    probability: that people prefer the first (0 to 1); lower: the lower confidence bound of it;
    terms: what each dimension adds to the log-odds for the first, before the temperature.
    """

    probability: float
    lower: float
    sd: float
    terms: dict[str, float]
    measured: bool
    digest: str


@dataclass(frozen=True)
class PreferenceModel:
    """A trained model.

    Attributes: w (8,), u (8, k), centre (k,); members_w (m, 8), members_u (m, 8, k), the bootstrap
    ensemble; standard_errors of w (8,); temperatures of measured and of estimated levels (each
    divides log-odds); estimator of levels from text; info; digest, SHA-256 over info and numbers.
    """

    w: Array
    u: Array
    centre: Array
    members_w: Array
    members_u: Array
    standard_errors: Array
    temperature: float
    plan_temperature: float
    estimator: Estimator
    info: ModelInfo
    digest: str

    # Entrances
    def score_recovery(self, context: Situation, attributes: AttributesLike) -> Score:
        """Score a recovery that ran, by its measured attributes."""
        return self._score(context, as_vector(attributes), measured=True)

    def score_plan(
        self,
        context: Situation,
        text: str,
        actions: Sequence[ActionLike] = (),
        situation: str = "",
        rater: Rater | None = None,
    ) -> Score:
        """Score a plan before it runs, by attributes estimated from its text and structured actions
        (and a rater's).
        """
        estimated = self.estimator.estimate(text, actions, situation, rater)
        return self._score(context, estimated, measured=False)

    def prefer(
        self,
        context: Situation,
        first: AttributesLike,
        second: AttributesLike,
        measured: bool = True,
    ) -> Preference:
        """Compare two recoveries: the probability that people prefer the first."""
        return self._prefer(context, as_vector(first) - as_vector(second), measured)

    def rank_plans(self, context: Situation, texts: Sequence[str]) -> list[tuple[int, Score]]:
        """Score several plans for one situation; return (position in `texts`, score), best first by
        value.
        """
        scores = [(at, self.score_plan(context, text)) for at, text in enumerate(texts)]
        return sorted(scores, key=lambda item: -item[1].value)

    # Arrays, for evaluation
    def weights(self, flags: Array) -> Array:
        """Return the weights (…, 8) in the contexts of flags (…, 10), in log-odds per point."""
        found: Array = (
            self.w + (context_features(self.info.context, flags) - self.centre) @ self.u.T
        )
        return found

    def logits(self, flags: Array, a: Array, b: Array) -> Array:
        """Return the log-odds (n,) for a over b, levels (n, 8), before the temperature."""
        odds: Array = np.sum(self.weights(flags) * (a - b), axis=-1)
        return odds

    def member_logits(self, flags: Array, difference: Array) -> Array:
        """Return each ensemble member's log-odds (m, n) for differences of levels (n, 8)."""
        shift = context_features(self.info.context, flags) - self.centre
        weights = self.members_w[:, None, :] + np.einsum("nk,mdk->mnd", shift, self.members_u)
        odds: Array = np.einsum("mnd,nd->mn", weights, difference)
        return odds

    def _score(self, context: Situation, levels: Array, measured: bool) -> Score:
        flags = flag_vector(context)
        weights = self.weights(flags)
        terms = weights * (levels - NEUTRAL)
        members = self.member_logits(flags[None], (levels - NEUTRAL)[None])[:, 0]
        return Score(
            value=float(terms.sum()),
            lower=float(np.quantile(members, LOWER)),
            sd=float(members.std()),
            terms=_named(terms),
            weights=_named(weights),
            attributes=Attributes.of(levels),
            measured=measured,
            digest=self.digest,
        )

    def _prefer(self, context: Situation, difference: Array, measured: bool) -> Preference:
        flags = flag_vector(context)
        heat = self.temperature if measured else self.plan_temperature
        terms = self.weights(flags) * difference
        members = self.member_logits(flags[None], difference[None])[:, 0] / heat
        return Preference(
            probability=_sigmoid(float(terms.sum() / heat)),
            lower=_sigmoid(float(np.quantile(members, LOWER))),
            sd=float(members.std()),
            terms=_named(terms),
            measured=measured,
            digest=self.digest,
        )


def _named(values: Array) -> dict[str, float]:
    return {name: float(value) for name, value in zip(ATTRIBUTES, values, strict=True)}


def _sigmoid(value: float) -> float:
    return float(1.0 / (1.0 + np.exp(-value)))


def build(
    numbers: Mapping[str, Array],
    *,
    context: str,
    source: str,
    trained_on: dict[str, object],
    training: dict[str, object],
    versions: dict[str, str],
) -> PreferenceModel:
    """Make a model from its numbers (kept as float32) and what `ModelInfo` says of them."""
    kept = {name: np.asarray(array, dtype=np.float32) for name, array in numbers.items()}
    info = ModelInfo(
        format=FORMAT,
        attributes=ATTRIBUTES,
        context=context,
        source=source,
        trained_on=trained_on,
        training=training,
        versions=versions,
        lexicon=lexicon.DIGEST,
        tensors_sha256=checksum(kept),
    )
    return assemble({name: array.astype(np.float64) for name, array in kept.items()}, info)


def checksum(numbers: Mapping[str, NDArray[np.floating]]) -> str:
    """Return the SHA-256 over names and float32 values that ties the numbers to `ModelInfo`."""
    kept = {name: np.asarray(array, dtype=np.float32) for name, array in numbers.items()}
    parts = (name.encode() + kept[name].tobytes() for name in sorted(kept))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def numbers_of(model: PreferenceModel) -> dict[str, Array]:
    """Return the arrays to store, the inverse of `assemble`."""
    own = {
        name: getattr(model, name)
        for name in ("w", "u", "centre", "members_w", "members_u", "standard_errors")
    }
    heats = np.array([model.temperature, model.plan_temperature])
    return {**own, "temperatures": heats, **model.estimator.numbers()}


def assemble(numbers: Mapping[str, Array], info: ModelInfo) -> PreferenceModel:
    """Put a model together. Raises: ModelError for an array that is missing or of another shape."""
    size, width = len(ATTRIBUTES), len(CONTEXT_FEATURES[info.context])
    members = len(numbers.get("members_w", ()))
    shapes = {
        "w": (size,),
        "u": (size, width),
        "centre": (width,),
        "members_w": (members, size),
        "members_u": (members, size, width),
        "standard_errors": (size,),
        "temperatures": (2,),
    }
    for name, shape in shapes.items():
        if name not in numbers or numbers[name].shape != shape or not members:
            found = numbers[name].shape if name in numbers else "nothing"
            raise ModelError(f"needed tensor {name!r} of shape {shape}, found {found}")
    text = json.dumps(info.model_dump(mode="json"), sort_keys=True)
    return PreferenceModel(
        **{name: numbers[name] for name in shapes if name != "temperatures"},
        temperature=float(numbers["temperatures"][0]),
        plan_temperature=float(numbers["temperatures"][1]),
        estimator=Estimator.of(numbers),
        info=info,
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )

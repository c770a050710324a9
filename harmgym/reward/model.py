"""The preference model: one object, two entrances. `score_plan` before a recovery runs,
`score_recovery` after it ran.

    r(s, p) = (w + U (c(s) - mean c)) . (a(s, p) - 3)

a is the vector of the eight levels (1 to 5), c the context features of the situation. A score is a
log-odds: the difference of two scores is the log-odds that people prefer the one to the other.
Scoring needs numpy alone. A model is a folder with `model.json` (what it is, and what it was
trained on), `model.safetensors` (the numbers), and `card.md`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import ModelError
from harmgym.records import Record, parse_record
from harmgym.reward import lexicon
from harmgym.reward.context import CONTEXT_FEATURES, context_features, flag_vector
from harmgym.reward.estimate import Estimator, Rater
from harmgym.reward.tensors import read_tensors, write_tensors
from harmgym.tasks.rubric import ATTRIBUTES, NEUTRAL, Attributes, as_vector

Array = NDArray[np.float64]
FORMAT = 1
DEFAULT = Path(__file__).resolve().parent / "default_model"
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
    def score_recovery(self, context: Any, attributes: Any) -> Score:
        """Score a recovery that ran, by its measured levels.

        `context`: a `Context`, or a mapping or names of flags. `attributes`: eight levels, see
        `as_vector`.
        """
        return self._score(context, as_vector(attributes), measured=True)

    def score_plan(
        self,
        context: Any,
        text: str,
        actions: Sequence[Any] = (),
        situation: str = "",
        rater: Rater | None = None,
    ) -> Score:
        """Score a plan before it runs, by levels estimated from its text and structured actions
        (and a rater's).
        """
        return self._score(
            context, self.estimator.estimate(text, actions, situation, rater), measured=False
        )

    def prefer(self, context: Any, first: Any, second: Any, measured: bool = True) -> Preference:
        """Compare two recoveries by their levels: the probability that people prefer the first."""
        return self._prefer(context, as_vector(first) - as_vector(second), measured)

    def rank_plans(self, context: Any, texts: Sequence[str]) -> list[tuple[int, Score]]:
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

    def _score(self, context: Any, levels: Array, measured: bool) -> Score:
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

    def _prefer(self, context: Any, difference: Array, measured: bool) -> Preference:
        flags = flag_vector(context)
        heat = self.temperature if measured else self.plan_temperature
        terms = self.weights(flags) * difference
        members = self.member_logits(flags[None], difference[None])[:, 0] / heat
        return Preference(
            probability=float(_sigmoid(terms.sum() / heat)),
            lower=float(_sigmoid(np.quantile(members, LOWER))),
            sd=float(members.std()),
            terms=_named(terms),
            measured=measured,
            digest=self.digest,
        )


def _named(values: Array) -> dict[str, float]:
    return {name: float(value) for name, value in zip(ATTRIBUTES, values, strict=True)}


def _sigmoid(value: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-value))


def build(numbers: Mapping[str, Array], about: Mapping[str, Any]) -> PreferenceModel:
    """Make a model from its numbers and everything of `ModelInfo` but the checksum; numbers are
    kept as float32.
    """
    kept = {name: np.asarray(array, dtype=np.float32) for name, array in numbers.items()}
    checksum = hashlib.sha256(
        b"".join(name.encode() + kept[name].tobytes() for name in sorted(kept))
    ).hexdigest()
    info = ModelInfo(
        format=FORMAT,
        attributes=ATTRIBUTES,
        lexicon=lexicon.DIGEST,
        tensors_sha256=checksum,
        **about,
    )
    return _assemble({name: array.astype(np.float64) for name, array in kept.items()}, info)


def save(model: PreferenceModel, folder: Path) -> None:
    """Write `model.safetensors` and `model.json` into a folder (made where missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: array.astype(np.float32) for name, array in _numbers(model).items()}
    write_tensors(folder / "model.safetensors", tensors, {"format": f"harmgym-preference-{FORMAT}"})
    text = json.dumps(model.info.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    aside = folder / "model.json.part"
    aside.write_text(text, encoding="utf-8")
    aside.replace(folder / "model.json")


def load(folder: Path | None = None) -> PreferenceModel:
    """Load a model folder (default: the model that ships with the package).

    Raises: ModelError when it is missing, damaged, of another format version, or not safetensors.
    """
    chosen = folder or DEFAULT
    info = _load_info(chosen / "model.json")
    numbers = read_tensors(chosen / "model.safetensors")
    kept = {name: array.astype(np.float32) for name, array in numbers.items()}
    found = hashlib.sha256(
        b"".join(name.encode() + kept[name].tobytes() for name in sorted(kept))
    ).hexdigest()
    if found != info.tensors_sha256:
        raise ModelError(
            f"{chosen}: model.safetensors does not belong to model.json (checksum {found[:12]} is not expected)"
        )
    return _assemble(numbers, info)


@functools.cache
def default_model() -> PreferenceModel:
    """Return the model that ships with the package, loaded once a process."""
    return load()


def _load_info(path: Path) -> ModelInfo:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path}: file not found; a reward model is a folder with model.json and model.safetensors"
        ) from None
    except ValueError as err:
        raise ModelError(f"{path}: not valid JSON ({err})") from None
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise ModelError(
            f"{path}: needed a model of format {FORMAT}, found format {data.get('format')!r}; train it again"
        )
    info = parse_record(data, ModelInfo, str(path), ModelError)
    if info.attributes != ATTRIBUTES or info.context not in CONTEXT_FEATURES:
        raise ModelError(
            f"{path}: the model's attributes or context {info.context!r} are not those of this version"
        )
    if info.lexicon != lexicon.DIGEST:
        raise ModelError(
            f"{path}: the model was trained with another lexicon ({info.lexicon[:12]}); train it again"
        )
    return info


def _numbers(model: PreferenceModel) -> dict[str, Array]:
    own = {
        name: getattr(model, name)
        for name in ("w", "u", "centre", "members_w", "members_u", "standard_errors")
    }
    heats = np.array([model.temperature, model.plan_temperature])
    return {**own, "temperatures": heats, **model.estimator.numbers()}


def _assemble(numbers: Mapping[str, Array], info: ModelInfo) -> PreferenceModel:
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

"""Estimate the eight levels of a plan that has not run yet, from its text and its structured
actions.

A ridge regression on the concepts of `harmgym.reward.lexicon`, learned on the text corpus, where
levels are known by construction. Ridges are chosen by cross-validation grouped by scenario. How
well it does is reported per dimension as the correlation with the known level on held-out
scenarios; it is a guess, and far from measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import JudgmentError, ModelError
from harmgym.reward.lexicon import FEATURE_COUNT, ActionLike, features, words_of_actions
from harmgym.tasks.rubric import ATTRIBUTE_MAX, ATTRIBUTE_MIN, ATTRIBUTES, as_vector

Array = NDArray[np.float64]
MAX_CHARS = 20_000


class Rater(Protocol):
    """Somebody who rates a plan on the eight dimensions, for instance a language model."""

    def rate(self, situation: str, plan: str) -> Mapping[str, float]:
        """Return a level from 1 to 5 for each dimension."""
        ...


@dataclass(frozen=True)
class Estimator:
    """Linear map from a plan's features to levels.

    Attributes: offset (F,), the features' means; slopes (8, F); middle (8,), the levels' means;
    error (8,), the standard deviation of the error on scenarios left out, in points.
    """

    offset: Array
    slopes: Array
    middle: Array
    error: Array

    def estimate(
        self,
        text: str,
        actions: Sequence[ActionLike] = (),
        situation: str = "",
        rater: Rater | None = None,
    ) -> Array:
        """Return estimated levels (8,), each 1 to 5.

        With actions, text and deeds count half each. With a rater, its levels and ours are
        averaged. Raises: JudgmentError on an empty plan or text of more than 20,000 characters, or
        a rater's level outside 1..5.
        """
        if not text.strip() and not actions:
            raise JudgmentError("needed a plan as text or actions, found neither")
        if len(text) > MAX_CHARS:
            raise JudgmentError(
                f"needed a plan of at most {MAX_CHARS} characters, found {len(text)}"
            )
        parts = [part for part in (text, words_of_actions(actions)) if part.strip()]
        levels = self.levels(np.stack([features(part) for part in parts] or [features(text)])).mean(
            axis=0
        )
        if rater is not None:
            levels = (levels + as_vector(rater.rate(situation, text or parts[-1]))) / 2.0
        clipped: Array = np.clip(levels, ATTRIBUTE_MIN, ATTRIBUTE_MAX)
        return clipped

    def levels(self, rows: Array) -> Array:
        """Return estimated levels (n, 8) for feature rows (n, F)."""
        return np.clip(
            self.middle + (rows - self.offset) @ self.slopes.T, ATTRIBUTE_MIN, ATTRIBUTE_MAX
        )

    def numbers(self) -> dict[str, Array]:
        """Return the arrays to store, the inverse of `of`."""
        return {
            f"estimator_{name}": getattr(self, name)
            for name in ("offset", "slopes", "middle", "error")
        }

    @classmethod
    def of(cls, numbers: Mapping[str, Array]) -> Estimator:
        """Read the arrays back. Raises: ModelError when one is missing or of another shape."""
        size = len(ATTRIBUTES)
        shapes = {
            "offset": (FEATURE_COUNT,),
            "slopes": (size, FEATURE_COUNT),
            "middle": (size,),
            "error": (size,),
        }
        for name, shape in shapes.items():
            found = numbers.get(f"estimator_{name}")
            if found is None or found.shape != shape:
                was = "nothing" if found is None else found.shape
                raise ModelError(f"needed tensor 'estimator_{name}' of shape {shape}, found {was}")
        return cls(**{name: numbers[f"estimator_{name}"] for name in shapes})

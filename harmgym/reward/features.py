"""Judgments as arrays: what the model is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import JudgmentError
from harmgym.reward.judgments import Judgment
from harmgym.reward.topics import flag_vector

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """n judged pairs.

    Attributes: a, b float64 (n, 8), levels of the two recoveries; flags float64 (n, 10); chose_a bool (n,); left float64
    (n,), +1 where a was shown on the left and -1 where b was; scenario int (n,), the row of `names`, by which data are
    grouped; source "human", "simulated", "model" or "mixed".
    """

    a: Array
    b: Array
    flags: Array
    chose_a: NDArray[np.bool_]
    left: Array
    scenario: NDArray[np.int64]
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.chose_a)

    def take(self, rows: NDArray[Any]) -> Pairs:
        """Return the pairs at these rows (indices or a mask)."""
        return Pairs(
            self.a[rows],
            self.b[rows],
            self.flags[rows],
            self.chose_a[rows],
            self.left[rows],
            self.scenario[rows],
            self.names,
            self.source,
        )

    def with_levels(self, a: Array, b: Array) -> Pairs:
        """Return the same judgments with other levels, e.g. estimated ones."""
        return Pairs(a, b, self.flags, self.chose_a, self.left, self.scenario, self.names, self.source)

    def swapped(self) -> Pairs:
        """Return the same pairs with the labels turned round: the other recovery was chosen."""
        return Pairs(self.a, self.b, self.flags, ~self.chose_a, -self.left, self.scenario, self.names, self.source)

    def require_two_classes(self) -> None:
        """Raise JudgmentError unless both positions were chosen at least once."""
        if len(self) < 2 or self.chose_a.all() or not self.chose_a.any():
            only = "none" if not len(self) else ("a" if self.chose_a.all() else "b")
            raise JudgmentError(
                f"needed judgments that choose a and judgments that choose b, found only {only} in {len(self)}; "
                "write each pair down in random order"
            )


def pairs_of(judgments: Sequence[Judgment], levels: str = "attributes") -> Pairs:
    """Turn judgments into arrays.

    `levels` is "attributes" (measured, or known by construction) or "ratings" (what the person who chose had rated).
    Raises: JudgmentError when a judgment has none, or there is no judgment.
    """
    if levels not in ("attributes", "ratings"):
        raise JudgmentError(f"needed levels to be 'attributes' or 'ratings', found {levels!r}")
    if not judgments:
        raise JudgmentError("needed at least one judgment, found none")
    a, b = _levels(judgments, levels)
    return assemble(judgments, a, b)


def assemble(judgments: Sequence[Judgment], a: Array, b: Array) -> Pairs:
    """Turn judgments into arrays with the levels (n, 8) that the caller gives."""
    names = tuple(sorted({j.scenario.id for j in judgments}))
    row = {name: at for at, name in enumerate(names)}
    sources = {j.source for j in judgments}
    return Pairs(
        a=a,
        b=b,
        flags=np.stack([flag_vector(j.context) for j in judgments]),
        chose_a=np.array([j.choice == "a" for j in judgments]),
        left=np.array([1.0 if j.shown_left == "a" else -1.0 for j in judgments]),
        scenario=np.array([row[j.scenario.id] for j in judgments], dtype=np.int64),
        names=names,
        source=sources.pop() if len(sources) == 1 else "mixed",
    )


def _levels(judgments: Sequence[Judgment], levels: str) -> tuple[Array, Array]:
    first, second = [], []
    for at, judgment in enumerate(judgments, start=1):
        a = judgment.a.attributes if levels == "attributes" else judgment.ratings_a
        b = judgment.b.attributes if levels == "attributes" else judgment.ratings_b
        if a is None or b is None:
            raise JudgmentError(f"judgment {at} (scenario {judgment.scenario.id!r}) has no {levels}; use another column")
        first.append(a.vector())
        second.append(b.vector())
    return np.stack(first), np.stack(second)

"""Judgments as arrays: what the model is fitted to."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import JudgmentError
from harmgym.preferences.judgments import Judgment
from harmgym.reward.context import flag_vector
from harmgym.reward.lexicon import features

Array = NDArray[np.float64]
Rows = NDArray[np.int64] | NDArray[np.bool_]
"""Which rows to take: indices or a mask."""


@dataclass(frozen=True)
class Pairs:
    """n judged pairs.

    Attributes: a, b float64 (n, 8), levels of the two recoveries; flags float64 (n, 10); chose_a
    bool (n,); left float64 (n,), +1 where a was shown on the left and -1 where b was; scenario int
    (n,), the row of `names`, by which data are grouped; source "human", "simulated", "model" or
    "mixed".
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

    def take(self, rows: Rows) -> Pairs:
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
        return Pairs(
            a, b, self.flags, self.chose_a, self.left, self.scenario, self.names, self.source
        )

    def swapped(self) -> Pairs:
        """Return the same pairs with the labels turned round: the other recovery was chosen."""
        return Pairs(
            self.a,
            self.b,
            self.flags,
            ~self.chose_a,
            -self.left,
            self.scenario,
            self.names,
            self.source,
        )

    def require_two_classes(self) -> None:
        """Raise JudgmentError unless both positions were chosen at least once."""
        if len(self) < 2 or self.chose_a.all() or not self.chose_a.any():
            only = "none" if not len(self) else ("a" if self.chose_a.all() else "b")
            raise JudgmentError(
                "needed judgments that choose a and judgments that choose b, "
                f"found only {only} in {len(self)}; write each pair down in random order"
            )


@dataclass(frozen=True, eq=False)
class Plans:
    """P recoveries that judgments are about.

    Attributes: texts; levels float64 (P, 8), nan where unknown; flags float64 (P, 10); scenario int
    (P,), a row of `names`.
    """

    texts: tuple[str, ...]
    levels: Array
    flags: Array
    scenario: NDArray[np.int64]
    names: tuple[str, ...]

    @functools.cached_property
    def features(self) -> Array:
        """What the lexicon finds in each text, float64 (P, F)."""
        return np.stack([features(text) for text in self.texts])

    def take(self, rows: Rows) -> Plans:
        """Return the plans at these rows (indices)."""
        texts = tuple(self.texts[int(row)] for row in rows)
        return Plans(texts, self.levels[rows], self.flags[rows], self.scenario[rows], self.names)


@dataclass(frozen=True, eq=False)
class Judged:
    """Judgments together with the recoveries they are about; plan_a, plan_b int (n,) are rows of
    `plans`.
    """

    plans: Plans
    pairs: Pairs
    plan_a: NDArray[np.int64]
    plan_b: NDArray[np.int64]

    def take(self, rows: Rows) -> Judged:
        """Return the judgments at these rows, with all plans."""
        return Judged(self.plans, self.pairs.take(rows), self.plan_a[rows], self.plan_b[rows])

    def with_levels(self, levels: Array) -> Judged:
        """Return the same judgments with other levels (P, 8) of the plans."""
        plans = Plans(
            self.plans.texts, levels, self.plans.flags, self.plans.scenario, self.plans.names
        )
        return Judged(
            plans,
            self.pairs.with_levels(levels[self.plan_a], levels[self.plan_b]),
            self.plan_a,
            self.plan_b,
        )


def judged_of(judgments: Sequence[Judgment]) -> Judged:
    """Collect judgments and their recoveries; a recovery's levels are measured ones, else its mean
    rating, else nan.

    Raises: JudgmentError when there is no judgment.
    """
    if not judgments:
        raise JudgmentError("needed at least one judgment, found none")
    rows: dict[tuple[str, str], int] = {}
    known: list[tuple[str, Judgment, list[Array]]] = []
    places: list[tuple[int, int]] = []
    for judgment in judgments:
        pair = []
        for recovery, ratings in (
            (judgment.a, judgment.ratings_a),
            (judgment.b, judgment.ratings_b),
        ):
            at = rows.setdefault((judgment.scenario.id, recovery.id), len(known))
            if at == len(known):
                known.append((recovery.text, judgment, []))
            if recovery.attributes is not None:
                known[at][2][:] = [recovery.attributes.vector()]
            elif ratings is not None:
                known[at][2].append(ratings.vector())
            pair.append(at)
        places.append((pair[0], pair[1]))
    levels = np.stack(
        [np.mean(found, axis=0) if found else np.full(8, np.nan) for _, _, found in known]
    )
    plan_a, plan_b = np.array(places, dtype=np.int64).T
    pairs = assemble(judgments, levels[plan_a], levels[plan_b])
    row = {name: at for at, name in enumerate(pairs.names)}
    plans = Plans(
        texts=tuple(text for text, _, _ in known),
        levels=levels,
        flags=np.stack([flag_vector(judgment.context) for _, judgment, _ in known]),
        scenario=np.array([row[judgment.scenario.id] for _, judgment, _ in known], dtype=np.int64),
        names=pairs.names,
    )
    return Judged(plans, pairs, plan_a, plan_b)


def pairs_of(judgments: Sequence[Judgment], levels: str = "attributes") -> Pairs:
    """Turn judgments into arrays.

    `levels` is "attributes" (measured, or known by construction) or "ratings" (what the person who
    chose had rated). Raises: JudgmentError when a judgment has none, or there is no judgment.
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
            raise JudgmentError(
                f"judgment {at} (scenario {judgment.scenario.id!r}) has no {levels}; "
                "use another column"
            )
        first.append(a.vector())
        second.append(b.vector())
    return np.stack(first), np.stack(second)


def folds(scenario: NDArray[np.int64], count: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """Return the fold (n,) of each judgment; a scenario is never in two folds."""
    known = np.unique(scenario)
    if len(known) < 2:
        raise JudgmentError(
            f"needed judgments on at least 2 scenarios for cross-validation, found {len(known)}"
        )
    order = np.random.default_rng(seed).permutation(len(known))
    fold_of = np.empty(len(known), dtype=np.int64)
    fold_of[order] = np.arange(len(known)) % min(count, len(known))
    return fold_of[np.searchsorted(known, scenario)]

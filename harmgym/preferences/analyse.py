"""The published analysis on any file of judgments: which ratings decide, and how the context moves
them.

1. Conditional logistic regression of the choice on the eight differences (paper: Table 4). For
   pairs it is the same as a logistic regression on differences without a constant; that is what
   statsmodels fits here.
2. Per dimension, a logistic regression of "a was chosen" on its difference, the ten topic weights,
   and their products (paper: Table 5); intervals from resampling whole scenarios. The topics are
   those of `harmgym.reward.context`, made from context flags, where the paper had LDA topics of its
   scenario texts.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import JudgmentError, MissingDependencyError
from harmgym.preferences.explain import LABELS, new_figure
from harmgym.preferences.features import Pairs, pairs_of
from harmgym.preferences.judgments import Judgment
from harmgym.preferences.training.fit import resample
from harmgym.reward.context import TOPIC_NAMES, topic_weights
from harmgym.reward.published import TABLE_4, TABLE_5
from harmgym.tasks.rubric import ATTRIBUTES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
RESAMPLES = 200
Z = 1.959964
FEWEST_PER_TERM = 5
"""Judgments needed for each coefficient of the moderation model."""


class MainEffect(TypedDict):
    """The coefficient of one dimension, and the published one."""

    attribute: str
    coefficient: float
    standard_error: float
    p: float
    published: float
    published_standard_error: float
    published_p: float


class Moderation(TypedDict):
    """How one topic moves one dimension; `published` None where the paper gives nothing."""

    attribute: str
    topic: str
    coefficient: float
    low: float
    high: float
    published: float | None


class Analysis(TypedDict):
    """What `analyse` returns, JSON-ready."""

    levels: NotRequired[str]
    source: str
    judgments: int
    scenarios: int
    main_effects: list[MainEffect]
    moderations: list[Moderation]


def analyse(judgments: Sequence[Judgment], resamples: int = RESAMPLES) -> Analysis:
    """Return main effects and moderations, each beside the published figure.

    Uses the raters' own ratings where every judgment has them, as the paper does, else the
    attributes. Raises: JudgmentError when some judgments have neither, or the data are too few.
    """
    rated = all(j.ratings_a is not None for j in judgments)
    pairs = pairs_of(judgments, "ratings" if rated else "attributes")
    return {"levels": "ratings" if rated else "attributes", **analyse_pairs(pairs, resamples)}


def analyse_pairs(pairs: Pairs, resamples: int = RESAMPLES) -> Analysis:
    """Do the analysis on arrays, see `analyse`."""
    pairs.require_two_classes()
    if len(pairs) < FEWEST_PER_TERM * len(ATTRIBUTES):
        fewest = FEWEST_PER_TERM * len(ATTRIBUTES)
        raise JudgmentError(
            f"needed at least {fewest} judgments for the analysis, found {len(pairs)}"
        )
    return {
        "source": pairs.source,
        "judgments": len(pairs),
        "scenarios": len(np.unique(pairs.scenario)),
        "main_effects": main_effects(pairs),
        "moderations": moderations(pairs, resamples),
    }


def main_effects(pairs: Pairs) -> list[MainEffect]:
    """Return one row per dimension: coefficient, standard error, p, and the published ones."""
    result = _statsmodels().Logit(pairs.chose_a.astype(float), pairs.a - pairs.b).fit(disp=0)
    rows: list[MainEffect] = []
    for at, name in enumerate(ATTRIBUTES):
        published = TABLE_4[name]
        rows.append(
            {
                "attribute": name,
                "coefficient": float(result.params[at]),
                "standard_error": float(result.bse[at]),
                "p": float(result.pvalues[at]),
                "published": published.coefficient,
                "published_standard_error": published.standard_error,
                "published_p": published.p,
            }
        )
    return rows


def moderations(pairs: Pairs, resamples: int = RESAMPLES) -> list[Moderation]:
    """Return one row per dimension and topic: the product's coefficient, its bootstrap interval,
    the published value.

    Topics whose weight hardly varies in these data are left out; without enough data the list is
    empty.
    """
    topics = topic_weights(pairs.flags)
    kept = np.flatnonzero(topics.std(axis=0) > 0.01)
    if len(pairs) < FEWEST_PER_TERM * (2 * len(kept) + 2):
        return []
    weights = resample(pairs.scenario, resamples, seed=0)
    rows: list[Moderation] = []
    for at, name in enumerate(ATTRIBUTES):
        difference = (pairs.a - pairs.b)[:, at]
        x = np.column_stack(
            [
                np.ones(len(pairs)),
                topics[:, kept],
                difference,
                topics[:, kept] * difference[:, None],
            ]
        )
        point, members = _logit(x, pairs.chose_a, weights)
        first = len(kept) + 2
        low, high = np.quantile(members, [0.025, 0.975], axis=0)
        for place, column in enumerate(kept):
            topic = TOPIC_NAMES[int(column)]
            rows.append(
                {
                    "attribute": name,
                    "topic": topic,
                    "coefficient": float(point[first + place]),
                    "low": float(low[first + place]),
                    "high": float(high[first + place]),
                    "published": TABLE_5[name].get(topic),
                }
            )
    return rows


def _logit(x: Array, chose_a: NDArray[np.bool_], weights: Array) -> tuple[Array, Array]:
    """Return the coefficients (p,) and their resamplings (resamples, p); a trace of ridge keeps
    rare topics finite.
    """
    y, ridge = chose_a.astype(float), np.full(x.shape[1], 1e-3)
    point = _newton(x, y, np.ones(len(y)), ridge, np.zeros(x.shape[1]))
    return point, np.stack([_newton(x, y, row, ridge, point) for row in weights])


def _newton(x: Array, y: Array, weight: Array, ridge: Array, theta: Array) -> Array:
    for _ in range(25):
        chance = 1.0 / (1.0 + np.exp(-np.clip(x @ theta, -30, 30)))
        gradient = x.T @ (weight * (chance - y)) + ridge * theta
        step = np.linalg.solve(
            (x * (weight * chance * (1 - chance))[:, None]).T @ x + np.diag(ridge), gradient
        )
        theta = theta - step
        if np.abs(step).max() < 1e-7:
            break
    return theta


def _statsmodels() -> ModuleType:
    try:
        return importlib.import_module("statsmodels.api")
    except ImportError:
        raise MissingDependencyError(
            'the analysis needs statsmodels: pip install "harmgym[reward]"'
        ) from None


def save_picture(report: Analysis, path: Path) -> None:
    """Draw main effects and moderations beside the published figures into a PNG or SVG file."""
    figure, (left, right) = new_figure(12.0, 4.8, columns=2)
    _draw_main(left, report)
    _draw_moderations(right, report)
    figure.suptitle(
        f"{report['judgments']} {report['source']} judgments beside the published study",
        fontsize=11,
    )
    figure.savefig(path, dpi=120)


def _draw_main(axes: Axes, report: Analysis) -> None:
    rows = report["main_effects"][::-1]
    places = np.arange(len(rows))
    published = [(row["published"], row["published_standard_error"]) for row in rows]
    here = [(row["coefficient"], row["standard_error"]) for row in rows]
    for shift, points, colour, label in (
        (0.15, published, "#777777", "published (Table 4)"),
        (-0.15, here, "#2c7fb8", f"these judgments ({report['source']})"),
    ):
        axes.errorbar(
            [value for value, _ in points],
            places + shift,
            xerr=[Z * error for _, error in points],
            fmt="o",
            color=colour,
            label=label,
            capsize=3,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(places, [LABELS[row["attribute"]] for row in rows])
    axes.set_xlabel("log-odds per point, 95 % interval")
    axes.legend(frameon=False, fontsize=8)


def _draw_moderations(axes: Axes, report: Analysis) -> None:
    rows = [row for row in report["moderations"] if row["published"] is not None]
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axline((0, 0), slope=1, color="#bbbbbb", linewidth=0.8)
    for name in ATTRIBUTES:
        mine = [row for row in rows if row["attribute"] == name]
        if mine:
            values = np.array(
                [[row["published"], row["coefficient"], row["low"], row["high"]] for row in mine]
            )
            spread = np.abs(values[:, 2:] - values[:, 1:2]).T
            axes.errorbar(
                values[:, 0],
                values[:, 1],
                yerr=spread,
                fmt="o",
                markersize=4,
                linewidth=0.6,
                label=LABELS[name],
            )
    axes.set_xlabel("published moderation (Table 5)")
    axes.set_ylabel("moderation in these judgments, 95 % interval")
    if rows:
        axes.legend(frameon=False, fontsize=7)

"""Why a recovery scored as it did: which dimension moved the score in this context, as a sentence
and as a bar chart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import MissingDependencyError
from harmgym.records import Record
from harmgym.reward.context import Situation, flag_vector
from harmgym.reward.model import PreferenceModel, Score
from harmgym.tasks.rubric import ATTRIBUTES, NEUTRAL, AttributesLike, as_vector
from harmgym.tasks.spec import CONTEXT_FLAGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

LABELS: Mapping[str, str] = {
    "comprehensiveness": "comprehensiveness",
    "focus": "focus",
    "success": "likelihood of success",
    "speed": "speed",
    "long_term": "long-term resolution",
    "side_harms": "freedom from side harms",
    "communication": "communication",
    "autonomy": "respect for the user's choice",
}
WIDTH = 24


class Explanation(Record):
    """What moved a score or a comparison.

    sentence: in words; terms: log-odds that each dimension adds, largest first by size; usual: what
    the same levels would add in the average context; context: the flags that are set.
    """

    sentence: str
    terms: dict[str, float]
    usual: dict[str, float]
    context: tuple[str, ...]
    source: str


def explain_score(model: PreferenceModel, context: Situation, score: Score) -> Explanation:
    """Explain one score against a recovery that is middling (3 of 5) in everything."""
    difference = as_vector(score.attributes) - NEUTRAL
    kind = "measured" if score.measured else "estimated from the plan"
    lead = f"Score {score.value:+.2f} (lower bound {score.lower:+.2f}, levels {kind})"
    return _explain(model, context, difference, lead, "a middling recovery")


def explain_pair(
    model: PreferenceModel,
    context: Situation,
    first: AttributesLike,
    second: AttributesLike,
    measured: bool = True,
) -> Explanation:
    """Explain why one recovery is preferred to another, by their levels."""
    preference = model.prefer(context, first, second, measured)
    lead = (
        f"People would want the first one with probability {preference.probability:.2f} "
        f"(lower bound {preference.lower:.2f})"
    )
    return _explain(model, context, as_vector(first) - as_vector(second), lead, "the second")


def _explain(
    model: PreferenceModel, context: Situation, difference: Array, lead: str, other: str
) -> Explanation:
    flags = flag_vector(context)
    weights = model.weights(flags)
    usual = dict(zip(ATTRIBUTES, (float(value) for value in model.w * difference), strict=True))
    terms = dict(zip(ATTRIBUTES, (float(value) for value in weights * difference), strict=True))
    ordered = dict(sorted(terms.items(), key=lambda item: -abs(item[1])))
    names = tuple(flag for flag, value in zip(CONTEXT_FLAGS, flags, strict=True) if value)
    where = ", ".join(names).replace("_", " ") or "no context flag"
    sentence = f"{lead}: {_mover(ordered, difference, weights, usual, other, where)}"
    return Explanation(
        sentence=sentence, terms=ordered, usual=usual, context=names, source=model.info.source
    )


def _mover(
    terms: dict[str, float],
    difference: Array,
    weights: Array,
    usual: dict[str, float],
    other: str,
    where: str,
) -> str:
    name = next(iter(terms))
    at = ATTRIBUTES.index(name)
    if abs(terms[name]) < 1e-9:
        return f"no dimension differs from {other}."
    apart = abs(float(difference[at]))
    side = "above" if difference[at] > 0 else "below"
    change = _change(float(weights[at]), usual[name] / float(difference[at]))
    return (
        f"{LABELS[name]} moved it most ({terms[name]:+.2f}), {apart:.1f} points {side} {other}, "
        f"where a point counts {float(weights[at]):+.2f} log-odds, {change}, "
        f"in this context ({where})."
    )


def _change(here: float, usual: float) -> str:
    """Compare what a point counts in this context with what it counts in the average one."""
    if abs(here - usual) < 0.02:
        return "as usual"
    return "more than usual" if abs(here) > abs(usual) else "less than usual"


def bars(explanation: Explanation) -> str:
    """Return a bar chart of the terms in plain text, zero in the middle."""
    widest = max((abs(value) for value in explanation.terms.values()), default=0.0) or 1.0
    lines = []
    for name, value in explanation.terms.items():
        length = round(abs(value) / widest * WIDTH)
        left = ("█" * length).rjust(WIDTH) if value < 0 else " " * WIDTH
        right = ("█" * length).ljust(WIDTH) if value > 0 else " " * WIDTH
        lines.append(f"{LABELS[name]:>30} {left}│{right} {value:+.2f}")
    return "\n".join(lines)


def save_bars(explanation: Explanation, path: Path) -> None:
    """Draw the bar chart into a PNG or SVG file: filled bars in this context, outlines in the
    average context.

    Raises: MissingDependencyError without matplotlib.
    """
    figure, (axes,) = new_figure(7.2, 3.6)
    names = list(explanation.terms)[::-1]
    places = range(len(names))
    values = [explanation.terms[name] for name in names]
    axes.barh(
        places,
        values,
        color=["#2c7fb8" if value >= 0 else "#d95f0e" for value in values],
        label="in this context",
    )
    axes.barh(
        places,
        [explanation.usual[name] for name in names],
        fill=False,
        edgecolor="#444444",
        label="in the average context",
    )
    axes.set_yticks(list(places), [LABELS[name] for name in names])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"log-odds of being preferred ({explanation.source} judgments)")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure (inches) that needs no display, and its axes from left to right.

    Raises: MissingDependencyError without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            'pictures need matplotlib: pip install "harmgym[reward]"'
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])

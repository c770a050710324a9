"""Why a recovery scored as it did: which dimension moved the score in this context, as a sentence
and as a bar chart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harmgym.errors import MissingDependencyError
from harmgym.records import Record
from harmgym.reward.context import flag_vector
from harmgym.reward.model import PreferenceModel, Score
from harmgym.tasks.rubric import ATTRIBUTES, NEUTRAL, Attributes, as_vector
from harmgym.tasks.spec import CONTEXT_FLAGS

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


def explain_score(model: PreferenceModel, context: Any, score: Score) -> Explanation:
    """Explain one score against a recovery that is middling (3 of 5) in everything."""
    difference = as_vector(score.attributes) - NEUTRAL
    kind = "measured" if score.measured else "estimated from the plan"
    lead = f"Score {score.value:+.2f} (lower bound {score.lower:+.2f}, levels {kind})"
    return _explain(model, context, difference, lead, "a middling recovery")


def explain_pair(
    model: PreferenceModel,
    context: Any,
    first: Attributes | Any,
    second: Attributes | Any,
    measured: bool = True,
) -> Explanation:
    """Explain why one recovery is preferred to another, by their levels."""
    preference = model.prefer(context, first, second, measured)
    lead = f"People would want the first one with probability {preference.probability:.2f} (lower bound {preference.lower:.2f})"
    return _explain(model, context, as_vector(first) - as_vector(second), lead, "the second")


def _explain(
    model: PreferenceModel, context: Any, difference: Any, lead: str, other: str
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
    difference: Any,
    weights: Any,
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
    shift = float(weights[at]) - (usual[name] / float(difference[at]))
    change = (
        "as usual"
        if abs(shift) < 0.02
        else (
            "more than usual"
            if abs(float(weights[at])) > abs(weights[at] - shift)
            else "less than usual"
        )
    )
    return (
        f"{LABELS[name]} moved it most ({terms[name]:+.2f}), {apart:.1f} points {side} {other}, where a point counts "
        f"{float(weights[at]):+.2f} log-odds, {change}, in this context ({where})."
    )


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
    figure, axes = new_figure(7.2, 3.6)
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


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """Return a figure (inches) that needs no display, and its axes. Raises: MissingDependencyError
    without matplotlib.
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
    return figure, figure.subplots(1, columns)

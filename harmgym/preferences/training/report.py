"""What an evaluation of a preference model says: the shapes of its JSON report.

Keys that only one kind of evaluation has (`evaluate_simulated` knows the truth, `evaluate_file`
does not) are `NotRequired`; tables and cards print what is there.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from harmgym.preferences.moderation import Moderations


class Span(TypedDict):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


class BestOf(TypedDict):
    """What a predictor gains by picking the best of ten plans, see `best_of`."""

    gain: Span
    share: Span
    win: Span


class PredictorRow(TypedDict):
    """One predictor in the table that puts them side by side."""

    name: str
    accuracy: Span
    ratio: NotRequired[Span]
    loss: Span
    ece: Span
    best_of_10: NotRequired[BestOf]
    note: str


class Effect(TypedDict):
    """A learned main effect beside the published 95 % interval."""

    learned: float
    standard_error: float
    published: float
    published_low: float
    published_high: float
    inside: bool


class ContextGain(TypedDict):
    """What context-conditional weights gain over global ones."""

    accuracy_gain: Span
    expected_accuracy_gain: Span
    loss_saved: Span


class Paired(TypedDict):
    """Both kinds of context against global weights, on the same held-out judgments."""

    judgments: int
    test_judgments: int
    flags: ContextGain
    topics: ContextGain


class Headline(TypedDict):
    """Accuracy, ceiling, their ratio and calibration error; intervals by the same names."""

    accuracy: float | None
    ceiling: float | None
    ratio: float | None
    ece: float | None
    intervals: dict[str, Span]


class Transfer(TypedDict):
    """The model on recoveries that ran on real machines."""

    recoveries: int
    states: int
    pairs: int
    snapshots: int
    measured: Headline
    estimated_accuracy: Span
    estimates: dict[str, float]


class ModelName(TypedDict):
    """Which model was evaluated."""

    digest: str
    source: str
    context: str


class Report(Headline):
    """The whole report."""

    source: str
    model: ModelName
    rows: list[PredictorRow]
    effects: dict[str, Effect]
    effects_on_ratings: NotRequired[dict[str, Effect]]
    paired: NotRequired[Paired]
    moderations: NotRequired[Moderations]
    estimates: NotRequired[dict[str, float]]
    transfer: NotRequired[Transfer | None]
    protocol: dict[str, object]

"""The model card and the tables, written from a model and the report of its evaluation; nothing is
filled in by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from harmgym.preferences.moderation import Moderations
from harmgym.preferences.training.report import Paired, Report, Span, Transfer
from harmgym.reward.model import PreferenceModel

ORIGIN = {
    "simulated": (
        "**The judgments are simulated.** No human judged anything: a population of annotators "
        "was drawn around the published "
        "coefficients (arXiv 2604.18847 v2, Tables 4 and 5). The model therefore says what "
        "people built on those "
        "coefficients would prefer. It is no evidence about people beyond what those tables hold."
    ),
    "human": "The judgments are human, from the file named below.",
    "model": "The judgments were made by a model, not by people.",
    "mixed": "The judgments come from more than one kind of source; see the file named below.",
}


def span(value: Span | None, digits: int = 3) -> str:
    """Return ``value [low, high]``."""
    if value is None:
        return "-"
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def row_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and lines of the comparison: every predictor side by side."""
    full = "ratio" in report["rows"][0]
    header = ("row", "accuracy", *(("accuracy / ceiling",) if full else ()), "loss (nats)", "ECE")
    header += ("best of 10: share of the perfect gain",) if full else ()
    lines = []
    for row in report["rows"]:
        line = (
            row["name"],
            span(row["accuracy"]),
            *((span(row["ratio"]),) if full else ()),
            span(row["loss"]),
            span(row["ece"]),
        )
        lines.append(line + ((span(row["best_of_10"]["share"]),) if full else ()))
    return header, lines


def effect_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and lines of the main effects beside the published intervals."""
    header: tuple[str, ...] = (
        "dimension",
        "learned (s.e.)",
        "published",
        "published 95 % interval",
        "inside",
    )
    lines: list[tuple[str, ...]] = [
        (
            name,
            f"{one['learned']:+.3f} ({one['standard_error']:.3f})",
            f"{one['published']:+.3f}",
            f"{one['published_low']:+.3f} to {one['published_high']:+.3f}",
            "yes" if one["inside"] else "no",
        )
        for name, one in report["effects"].items()
    ]
    return header, lines


def findings(report: Report) -> list[str]:
    """Return the other results, a sentence each."""
    intervals, said = report["intervals"], []
    said.append(
        f"Accuracy {span(intervals['accuracy'])}, expected calibration error "
        f"{span(intervals['ece'])}."
    )
    if "ratio" in intervals:
        said.append(
            f"Accuracy / ceiling {span(intervals['ratio'])}; the ceiling, "
            f"{span(intervals['ceiling'])}, is what the true "
            "weights of the average person reach on the same pairs: the most that can be known "
            "without knowing who judges."
        )
    if "personal_ratio" in intervals:
        said.append(
            f"Against the stricter ceiling of the true weights of the very person who judged, "
            f"{span(intervals['personal_ceiling'])}, accuracy is "
            f"{span(intervals['personal_ratio'])} of it."
        )
    if "ratio" not in intervals and report.get("ceiling"):
        said.append(
            f"Accuracy / ceiling {report['ratio']:.3f}; the ceiling is a bound from pairs judged "
            "twice."
        )
    if "effects_on_ratings" in report:
        rated = report["effects_on_ratings"]
        inside = sum(one["inside"] for one in rated.values())
        values = ", ".join(f"{name} {one['learned']:+.2f}" for name, one in rated.items())
        said.append(
            f"Main effects on the raters' own ratings: {inside} of {len(rated)} inside the "
            f"published intervals ({values})."
        )
    if "paired" in report:
        said += [_paired("topics", report["paired"]), _paired("flags", report["paired"])]
        said.append(_moderations(report["moderations"]))
        said.append(
            "Attributes estimated from a plan's text, correlation on held-out scenarios: "
            f"{_correlations(report['estimates'])}"
        )
        said.append(_transfer(report["transfer"]))
    return said + [f"{row['name']}: {row['note']}." for row in report["rows"] if row["note"]]


def _paired(kind: Literal["flags", "topics"], paired: Paired) -> str:
    one = paired[kind]
    return (
        f"Context by {kind} against global weights, trained on {paired['judgments']} judgments, "
        "same held-out judgments: "
        f"loss saved {span(one['loss_saved'], 4)} nats, accuracy gain "
        f"{span(one['accuracy_gain'], 4)}, "
        "gain in choosing what the average person prefers "
        f"{span(one['expected_accuracy_gain'], 4)}."
    )


def _moderations(found: Moderations) -> str:
    against = ", ".join(found["contradicted"]) or "none"
    return (
        f"Signs of the published moderations at {found['judgments']} judgments: "
        f"{found['recovered']} of {found['published']} "
        f"recovered; of the {found['clear']} whose interval excludes zero "
        f"{found['clear_and_right']} have the published sign "
        f"(contradicted: {against})."
    )


def _correlations(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items()) + "."


def _transfer(found: Transfer | None) -> str:
    if found is None:
        return (
            "Executed recoveries of the harm states: none collected yet "
            "(`harmgym preference collect RUN`)."
        )
    ratio = span(found["measured"]["intervals"]["ratio"])
    return (
        f"On {found['recoveries']} recoveries executed on {found['states']} harm states "
        f"({found['pairs']} pairs, simulated "
        f"votes): accuracy / ceiling {ratio} with measured levels, accuracy "
        f"{span(found['estimated_accuracy'])} with levels "
        "estimated from text; correlation of estimated with measured levels: "
        f"{_correlations(found['estimates'])}"
    )


def card(model: PreferenceModel, report: Report | None) -> str:
    """Return the model card as Markdown."""
    info = model.info
    parts = [
        f"# Preference model {model.digest[:12]}",
        ORIGIN.get(info.source, ORIGIN["mixed"]),
        "r(s, p) = (w + U (c(s) - mean c)) . (a(s, p) - 3): a are the eight levels of a recovery "
        "(1 to 5), c the context "
        f"({info.context}). The difference of two r is the log-odds that the one is preferred to "
        "the other. "
        f"{len(model.members_w)} bootstrap members give the lower confidence bound.",
        "## Trained on",
        _list({**info.trained_on, **info.training, **info.versions}),
    ]
    if report is not None:
        parts += ["## Evaluation", _list(report["protocol"])]
        parts += [
            _markdown(*row_table(report)),
            "## Main effects",
            _markdown(*effect_table(report)),
            "## Other results",
        ]
        parts.append("\n".join(f"- {sentence}" for sentence in findings(report)))
    parts += ["## Limits", LIMITS]
    return "\n\n".join(parts) + "\n"


LIMITS = """\
- It ranks recoveries; it does not know whether one is safe. In the environment a check of the \
machine goes before.
- Attributes read off a plan's text are rough (see the correlations). Scores of plans are for \
choosing among plans, not for reward.
- Table 4 weighs comprehensiveness negatively and side harms hardly at all, among correlated \
ratings and raters who agree
  little (kappa 0.15). That is no licence to do harm on the way.
- Context works through ten declared flags and our own mapping to the published topics."""


def _list(values: Mapping[str, object]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in values.items())


def _markdown(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rows = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(rows + ["| " + " | ".join(line) + " |" for line in lines])

"""harmgym preference: train, measure, score and explain the preference model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harmgym.cli.judgments import AsJson, print_json, print_table
from harmgym.errors import InputError, JudgmentError
from harmgym.files import sha256_of, write_atomic
from harmgym.records import parse_json

if TYPE_CHECKING:
    from harmgym.preferences.features import Judged
    from harmgym.preferences.simulate import Simulation
    from harmgym.preferences.training.report import Report
    from harmgym.reward.model import PreferenceModel, Score

app = typer.Typer(
    help="The preference model: train, eval, score, explain, card.", no_args_is_help=True
)
Model = Annotated[
    Path | None, typer.Option("--model", help="A model folder; default: the model that ships.")
]
Judgments = Annotated[
    Path | None,
    typer.Option("--judgments", help="A JSONL file; default: simulate on the shipped corpus."),
]
Context = Annotated[
    str, typer.Option("--context", help="Context flags that are true, comma separated.")
]


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", help="Folder for the model.")],
    judgments: Judgments = None,
    count: Annotated[
        int, typer.Option(min=50, help="How many judgments to simulate without a file.")
    ] = 1150,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the simulated population and of the ensemble.")
    ] = 0,
    base: Annotated[
        str | None,
        typer.Option("--hf", help="Train a Hugging Face classifier on this base instead."),
    ] = None,
) -> None:
    """Train a model from judgments (human ones from a file, or simulated ones) into a folder.

    Example: harmgym preference train --judgments labels.jsonl --out models/mine
    """
    if base is not None:
        _train_classifier(out, judgments, count, seed, base)
        return
    from harmgym.preferences.training.card import card
    from harmgym.preferences.training.train import describe
    from harmgym.preferences.training.train import train as train_model
    from harmgym.reward.storage import save

    data, about = _training_data(judgments, count, seed)
    model = train_model(data, describe(data.pairs, **about), seed=seed)
    save(model, out)
    write_atomic(out / "card.md", card(model, None))
    print(
        f"{out}: model {model.digest[:12]}, {model.info.source} judgments, "
        f"context by {model.info.context}"
    )
    print(
        f"next: harmgym preference card --model {out} (evaluates it and writes {out / 'card.md'})"
    )


@app.command("eval")
def evaluate(
    model: Model = None,
    judgments: Judgments = None,
    encoder: Annotated[
        bool,
        typer.Option("--encoder", metavar="", help="Also try the sentence encoder (text head)."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model: accuracy, ceiling, calibration, main effects, and other predictors side by
    side.

    Example: harmgym preference eval --json
    """
    from harmgym.preferences.training.card import effect_table, findings, row_table
    from harmgym.reward.storage import load

    report = _evaluate(load(model), judgments, encoder)
    if as_json:
        print_json(report)
        return
    print(f"Source of the judgments: {report['source']}.")
    print_table(f"Predictors side by side ({report['source']} judgments)", *row_table(report))
    print_table("Main effects", *effect_table(report))
    for sentence in findings(report):
        print(f"- {sentence}")


@app.command()
def score(
    context: Context = "",
    plan: Annotated[
        str | None, typer.Option(help="The plan's text, or - for standard input.")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="Measured levels as a JSON object, for a recovery that ran.")
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Score a plan before it runs (--plan), or a recovery after it ran (--attributes).

    Example: harmgym preference score --context severe,ongoing --plan "Stop the job, tell the team."
    """
    found = _score(_load(model), context, plan, attributes)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    kind = "measured" if found.measured else "estimated"
    print(
        f"{found.value:+.3f} log-odds against a middling recovery, "
        f"lower bound {found.lower:+.3f} ({kind} levels)"
    )
    levels = [f"{name} {value:.1f}" for name, value in found.attributes.model_dump().items()]
    print(f"levels: {', '.join(levels)}")


@app.command()
def explain(
    context: Context = "",
    plan: Annotated[
        str | None, typer.Option(help="The plan's text, or - for standard input.")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="Measured levels as a JSON object.")
    ] = None,
    than: Annotated[
        str | None,
        typer.Option(help="Compare with this plan's text, or its levels as a JSON object."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the bar chart into this PNG or SVG file.")
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Say which dimension moved a score, or a comparison, in this context.

    Example: harmgym preference explain --context public --plan "Delete it." --than "Ask first."
    """
    from harmgym.preferences.explain import bars, explain_pair, explain_score, save_bars

    loaded = _load(model)
    first = _score(loaded, context, plan, attributes)
    if than is None:
        found = explain_score(loaded, _flags(context), first)
    else:
        other = _score(
            loaded, context, *((None, than) if than.lstrip().startswith("{") else (than, None))
        )
        found = explain_pair(
            loaded,
            _flags(context),
            first.attributes,
            other.attributes,
            first.measured and other.measured,
        )
    if picture is not None:
        save_bars(found, picture)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print(found.sentence)
    print(bars(found))


@app.command()
def card(
    model: Model = None,
    judgments: Judgments = None,
    encoder: Annotated[
        bool,
        typer.Option("--encoder", metavar="", help="Also try the sentence encoder (text head)."),
    ] = False,
    show: Annotated[
        bool,
        typer.Option("--show", metavar="", help="Print the card that is there; evaluate nothing."),
    ] = False,
) -> None:
    """Evaluate a model and write its card (card.md) into its folder.

    Example: harmgym preference card --model models/mine
    """
    from harmgym.preferences.training.card import card as write_card
    from harmgym.reward.storage import DEFAULT, load

    folder = model or DEFAULT
    loaded = load(folder)
    file = folder / "card.md"
    if show:
        if not file.is_file():
            raise InputError(
                f"{file}: this model has no card yet; "
                f"write one with: harmgym preference card --model {folder}"
            )
        sys.stdout.write(file.read_text(encoding="utf-8"))
        return
    text = write_card(loaded, _evaluate(loaded, judgments, encoder))
    write_atomic(file, text)
    print(file)


@app.command()
def collect(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders with judged episodes.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="JSONL file; default: the one that ships.")
    ] = None,
) -> None:
    """Keep the recoveries of runs, with their measured levels, for testing the model on them.

    Example: harmgym preference collect runs/reference runs/slow
    """
    from harmgym.preferences.executed import FILE, load_executed, save_executed
    from harmgym.preferences.executed import collect as collect_run

    target = out or FILE
    kept = load_executed(target) + [one for run in runs for one in collect_run(run)]
    print(f"{target}: {save_executed(kept, target)} executed recoveries")


def _load(model: Path | None) -> PreferenceModel:
    from harmgym.reward.storage import load

    return load(model)


def _flags(context: str) -> list[str]:
    return [flag.strip() for flag in context.split(",") if flag.strip()]


def _score(model: PreferenceModel, context: str, plan: str | None, attributes: str | None) -> Score:
    if (plan is None) == (attributes is None):
        raise InputError("needed either --plan (before it runs) or --attributes (after it ran)")
    if attributes is not None:
        levels = parse_json(attributes, "levels", JudgmentError)
        if not isinstance(levels, dict | list):
            raise JudgmentError(f"needed levels as a JSON object, found {type(levels).__name__}")
        return model.score_recovery(_flags(context), levels)
    from harmgym.preferences.rater import configured_rater

    return model.score_plan(
        _flags(context), sys.stdin.read() if plan == "-" else str(plan), rater=configured_rater()
    )


def _training_data(
    judgments: Path | None, count: int, seed: int
) -> tuple[Judged, dict[str, object]]:
    if judgments is not None:
        from harmgym.preferences.features import judged_of
        from harmgym.preferences.judgments import load_judgments

        data = judged_of(load_judgments(judgments))
        return data, {"file": judgments.name, "sha256": sha256_of(judgments)}
    made = _simulated(count, seed)
    calibration = made.population.calibration
    about: dict[str, object] = {
        "population": f"{len(made.population)} simulated people, seed {seed}",
        "calibration": calibration.model_dump(),
    }
    return made.judged(), about


def _simulated(count: int, seed: int) -> Simulation:
    from harmgym.preferences.annotators import calibrate
    from harmgym.preferences.corpus import default_corpus
    from harmgym.preferences.simulate import simulate

    corpus = default_corpus()
    return simulate(corpus.split("train"), calibrate(corpus), count, seed)


def _train_classifier(out: Path, judgments: Path | None, count: int, seed: int, base: str) -> None:
    from harmgym.preferences.judgments import load_judgments
    from harmgym.preferences.training.hf import Recipe, train_classifier

    data = load_judgments(judgments) if judgments else list(_simulated(count, seed).judgments())
    report = train_classifier(data, out, base, Recipe(seed=seed))
    source = ", ".join(report["source"])
    print(
        f"{out}: accuracy {report['accuracy']:.3f} on {report['held_out_judgments']} "
        f"held-out judgments ({source})"
    )


def _evaluate(model: PreferenceModel, judgments: Path | None, encoder: bool) -> Report:
    if judgments is not None:
        from harmgym.preferences.judgments import load_judgments
        from harmgym.preferences.training.crossval import evaluate_file

        return evaluate_file(model, load_judgments(judgments), encoder)
    from harmgym.preferences.corpus import default_corpus
    from harmgym.preferences.training.evaluate import evaluate_simulated

    return evaluate_simulated(model, default_corpus(), encoder)

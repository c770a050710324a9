"""harmgym rm: train, measure, score and explain the preference model (and, from its neighbour,
harmgym judgments).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harmgym.cli.judgments import AsJson, judgments_app, print_json, print_table
from harmgym.errors import InputError, JudgmentError

__all__ = ["judgments_app", "rm_app"]

rm_app = typer.Typer(
    help="The preference reward model: train, eval, score, explain, card.", no_args_is_help=True
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


@rm_app.command()
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

    Example: harmgym rm train --judgments labels.jsonl --out models/mine
    """
    if base is not None:
        _train_classifier(out, judgments, count, seed, base)
        return
    from harmgym.preferences.training.card import card
    from harmgym.preferences.training.train import describe
    from harmgym.preferences.training.train import train as train_model
    from harmgym.reward.model import save

    data, about = _training_data(judgments, count, seed)
    model = train_model(data, describe(data.pairs, **about), seed=seed)
    save(model, out)
    (out / "card.md").write_text(card(model, None), encoding="utf-8")
    print(
        f"{out}: model {model.digest[:12]}, {model.info.source} judgments, context by {model.info.context}"
    )
    print(f"next: harmgym rm card --model {out} (evaluates it and writes {out / 'card.md'})")


@rm_app.command("eval")
def evaluate(
    model: Model = None,
    judgments: Judgments = None,
    encoder: Annotated[
        bool, typer.Option("--encoder", help="Also try the sentence encoder (text head).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model: accuracy, ceiling, calibration, main effects, and other predictors side by
    side.

    Example: harmgym rm eval --json
    """
    from harmgym.preferences.training.card import effect_table, findings, row_table
    from harmgym.reward.model import load

    report = _evaluate(load(model), judgments, encoder)
    if as_json:
        print_json(report)
        return
    print(f"Source of the judgments: {report['source']}.")
    print_table(f"Predictors side by side ({report['source']} judgments)", *row_table(report))
    print_table("Main effects", *effect_table(report))
    for sentence in findings(report):
        print(f"- {sentence}")


@rm_app.command()
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

    Example: harmgym rm score --context severe,ongoing --plan "Stop the job, restore the file, tell
    the team."
    """
    found = _score(_load(model), context, plan, attributes)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    kind = "measured" if found.measured else "estimated"
    print(
        f"{found.value:+.3f} log-odds against a middling recovery, lower bound {found.lower:+.3f} ({kind} levels)"
    )
    print(
        "levels: "
        + ", ".join(f"{name} {value:.1f}" for name, value in found.attributes.model_dump().items())
    )


@rm_app.command()
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

    Example: harmgym rm explain --context public --plan "Delete the post." --than "Ask the owner
    first, then delete it."
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


@rm_app.command()
def card(
    model: Model = None,
    judgments: Judgments = None,
    encoder: Annotated[
        bool, typer.Option("--encoder", help="Also try the sentence encoder (text head).")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the card that is there; evaluate nothing.")
    ] = False,
) -> None:
    """Evaluate a model and write its card (card.md) into its folder.

    Example: harmgym rm card --model models/mine
    """
    from harmgym.preferences.training.card import card as write_card
    from harmgym.reward.model import DEFAULT, load

    folder = model or DEFAULT
    loaded = load(folder)
    file = folder / "card.md"
    if show:
        if not file.is_file():
            raise InputError(
                f"{file}: this model has no card yet; write one with: harmgym rm card --model {folder}"
            )
        sys.stdout.write(file.read_text(encoding="utf-8"))
        return
    text = write_card(loaded, _evaluate(loaded, judgments, encoder))
    aside = file.with_name("card.md.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(file)
    print(file)


@rm_app.command()
def collect(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders with judged episodes.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="JSONL file; default: the one that ships.")
    ] = None,
) -> None:
    """Keep the recoveries of runs, with their measured levels, for testing the model on them.

    Example: harmgym rm collect runs/reference runs/slow
    """
    from harmgym.preferences.executed import FILE, load_executed, save_executed
    from harmgym.preferences.executed import collect as collect_run

    target = out or FILE
    kept = load_executed(target) + [one for run in runs for one in collect_run(run)]
    print(f"{target}: {save_executed(kept, target)} executed recoveries")


def _load(model: Path | None) -> Any:
    from harmgym.reward.model import load

    return load(model)


def _flags(context: str) -> list[str]:
    return [flag.strip() for flag in context.split(",") if flag.strip()]


def _score(model: Any, context: str, plan: str | None, attributes: str | None) -> Any:
    if (plan is None) == (attributes is None):
        raise InputError("needed either --plan (before it runs) or --attributes (after it ran)")
    if attributes is not None:
        try:
            levels = json.loads(attributes)
        except json.JSONDecodeError as err:
            raise JudgmentError(
                f"needed levels as a JSON object, found text that is not JSON ({err.msg})"
            ) from None
        return model.score_recovery(_flags(context), levels)
    from harmgym.preferences.rater import configured_rater

    return model.score_plan(
        _flags(context), sys.stdin.read() if plan == "-" else str(plan), rater=configured_rater()
    )


def _training_data(judgments: Path | None, count: int, seed: int) -> tuple[Any, dict[str, Any]]:
    if judgments is not None:
        import hashlib

        from harmgym.preferences.features import judged_of
        from harmgym.preferences.judgments import load_judgments

        data = judged_of(load_judgments(judgments))
        return data, {
            "file": judgments.name,
            "sha256": hashlib.sha256(judgments.read_bytes()).hexdigest(),
        }
    made = _simulated(count, seed)
    calibration = made.population.calibration
    about = {
        "population": f"{len(made.population)} simulated people, seed {seed}",
        "calibration": calibration.model_dump(),
    }
    return made.judged(), about


def _simulated(count: int, seed: int) -> Any:
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
        f"{out}: accuracy {report['accuracy']:.3f} on {report['held_out_judgments']} held-out judgments ({source})"
    )


def _evaluate(model: Any, judgments: Path | None, encoder: bool) -> dict[str, Any]:
    if judgments is not None:
        from harmgym.preferences.judgments import load_judgments
        from harmgym.preferences.training.crossval import evaluate_file

        return evaluate_file(model, load_judgments(judgments), encoder)
    from harmgym.preferences.corpus import default_corpus
    from harmgym.preferences.training.evaluate import evaluate_simulated

    return evaluate_simulated(model, default_corpus(), encoder)

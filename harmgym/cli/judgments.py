"""harmgym judgments: simulate, count, analyse and convert pairwise judgments."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harmgym.preferences.analyse import MainEffect, Moderation

Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
"""Header and lines."""

app = typer.Typer(
    help="Pairwise judgments: simulate, stats, analyse, convert.", no_args_is_help=True
)
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print the result as JSON.")]


@app.command("simulate")
def simulate_(
    out: Annotated[Path, typer.Option("--out", help="JSONL file to write.")],
    count: Annotated[int, typer.Option(min=10, help="How many judgments, five a person.")] = 1150,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the population; another seed, other people.")
    ] = 0,
    split: Annotated[
        str, typer.Option(help="train, heldout or all scenarios of the corpus.")
    ] = "train",
) -> None:
    """Let simulated annotators, built on the published coefficients, judge pairs of the text
    corpus.

    Example: harmgym judgments simulate --out simulated.jsonl
    """
    from harmgym.preferences.annotators import calibrate
    from harmgym.preferences.corpus import default_corpus
    from harmgym.preferences.judgments import save_judgments
    from harmgym.preferences.simulate import simulate

    corpus = default_corpus()
    calibration = calibrate(corpus)
    made = simulate(corpus.split(split), calibration, count, seed)
    written = save_judgments(out, made.judgments())
    people, kappa = len(made.population), calibration.kappa
    print(
        f"{out}: {written} SIMULATED judgments by {people} simulated people, "
        f"expected kappa {kappa:.3f}"
    )


@app.command()
def stats(
    file: Annotated[Path, typer.Argument(help="A JSONL file of judgments.")],
    as_json: AsJson = False,
) -> None:
    """Count judgments, pairs, people, double ratings and agreement, also by context.

    Example: harmgym judgments stats labels.jsonl
    """
    from harmgym.preferences.judgments import load_judgments
    from harmgym.preferences.statistics import statistics

    found = statistics(load_judgments(file))
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if name != "contexts":
            print(f"{name.replace('_', ' ')}: {value}")
    lines = [
        (flag, str(one["judgments"]), str(one["double_rated"]), str(one["kappa"]))
        for flag, one in found["contexts"].items()
    ]
    print_table("By context", ("flag", "judgments", "double rated", "kappa"), lines)


@app.command()
def analyse(
    file: Annotated[Path, typer.Argument(help="A JSONL file of judgments.")],
    picture: Annotated[
        Path | None, typer.Option(help="Draw the result into this PNG or SVG file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Repeat the published analysis on a file: which ratings decide, and how context moves them.

    Example: harmgym judgments analyse labels.jsonl --picture analysis.png
    """
    from harmgym.preferences.analyse import analyse as run_analysis
    from harmgym.preferences.analyse import save_picture
    from harmgym.preferences.judgments import load_judgments

    report = run_analysis(load_judgments(file))
    if picture is not None:
        save_picture(report, picture)
    if as_json:
        print_json(report)
        return
    print(
        f"{report['judgments']} {report['source']} judgments on {report['scenarios']} scenarios, "
        f"levels: {report['levels']}"
    )
    print_table("Conditional logistic regression", *_main_table(report["main_effects"]))
    print_table(
        "Moderation by topic (95 % bootstrap interval)", *_moderation_table(report["moderations"])
    )


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="File to read.")],
    target: Annotated[Path, typer.Argument(help="File to write.")],
    read: Annotated[
        str, typer.Option("--from", help="harmgym, trl (JSONL) or flat (CSV or JSONL of a study).")
    ] = "harmgym",
    write: Annotated[str, typer.Option("--to", help="harmgym or trl.")] = "trl",
    origin: Annotated[
        str,
        typer.Option(
            "--source", help="Who judged, where the file does not say: human, simulated, model."
        ),
    ] = "",
) -> None:
    """Turn judgments into TRL's preference columns, or a study's table or TRL's columns into
    judgments.

    Example: harmgym judgments convert labels.jsonl pairs.jsonl --to trl
    """
    from harmgym.preferences.exchange import read_any, write_any

    print(f"{target}: {write_any(target, read_any(source, read, origin), write)} judgments")


def _main_table(rows: Sequence[MainEffect]) -> Table:
    header = ("dimension", "coefficient", "s.e.", "p", "published", "s.e.", "p")
    lines = []
    for row in rows:
        name, *figures = row.values()  # in the order of `MainEffect`
        lines.append((str(name), *(f"{figure:.3f}" for figure in figures)))
    return header, lines


def _moderation_table(rows: Sequence[Moderation]) -> Table:
    lines = [
        (
            row["attribute"],
            row["topic"],
            f"{row['coefficient']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]",
            "-" if row["published"] is None else f"{row['published']:+.3f}",
        )
        for row in rows
    ]
    return ("dimension", "topic", "here", "published"), lines


def print_json(data: object) -> None:
    """Write a result as JSON to stdout."""
    sys.stdout.write(json.dumps(_finite(data), indent=1, ensure_ascii=False) + "\n")


def _finite(data: object) -> object:
    """Replace nan and infinities, which are not JSON, by null."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and data - data != 0 else data


def print_table(title: str, header: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> None:
    """Print a light table."""
    from rich import box
    from rich import table as rich_table
    from rich.console import Console

    table = rich_table.Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for column in header:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*line)
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)

"""harmgym bench: reset, step and density, measured here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from harmgym.cli.common import Note, bar, new_table, out, print_json

app = typer.Typer(help="Measure resets, steps and density on this host.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


def _measure(name: str, measure: Callable[[Note], dict[str, Any]], as_json: bool) -> None:
    with bar(f"bench {name}") as progress:
        figures = measure(progress.note)
    if as_json:
        print_json(figures)
        return
    table = new_table("figure", "p50", "p95", "n")
    for key, value in figures.items():
        if isinstance(value, dict) and "p50" in value:
            count = str(value.get("n", ""))
            table.add_row(key, f"{value['p50']:.4g}", f"{value['p95']:.4g}", count)
            for name, figure in value.get("states", {}).items():
                table.add_row(f"  {name}", f"{figure:.4g}", "", "")
        else:
            table.add_row(key, str(value), "", "")
    out.print(table)


@app.command()
def reset(
    repeats: Annotated[int, typer.Option(min=1, help="Resets of each kind.")] = 20,
    boots: Annotated[int, typer.Option(min=1, help="Cold boots.")] = 1,
    variants: Annotated[int, typer.Option(min=1, help="Variants of each harm state.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Standby reset, clone reset, cold boot and loadvm, side by side; new and cold variants.

    Example: harmgym bench reset --json
    """
    from harmgym.bench import bench

    _measure("reset", lambda note: bench.reset(repeats, boots, variants, note), as_json)


@app.command()
def step(
    repeats: Annotated[int, typer.Option(min=1, help="Steps of each kind.")] = 40,
    verdicts: Annotated[int, typer.Option(min=1, help="Judged episodes.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Shell, key and click steps, the screenshot and the verdict.

    Example: harmgym bench step --json
    """
    from harmgym.bench import bench

    _measure("step", lambda note: bench.step(repeats, verdicts, note), as_json)


@app.command()
def density(
    count: Annotated[int, typer.Option(min=1, help="Clones alive at once.")] = 32,
    seconds: Annotated[float, typer.Option(min=1, help="How long idleness is measured.")] = 20.0,
    as_json: AsJson = False,
) -> None:
    """Private memory and idle CPU of a clone, and many clones alive at once.

    Example: harmgym bench density --json
    """
    from harmgym.bench import bench

    _measure("density", lambda note: bench.density(count, seconds, note), as_json)

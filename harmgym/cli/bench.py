"""harmgym bench: reset, step and density, measured here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Table

from harmgym.cli.common import bar, out, print_json

app = typer.Typer(help="Measure resets, steps and density on this host.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


def _measure(name: str, measure: Callable[[], dict[str, Any]], as_json: bool) -> None:
    with bar(f"bench {name}"):
        figures = measure()
    if as_json:
        print_json(figures)
        return
    table = Table("figure", "p50", "p95", "n")
    for key, value in figures.items():
        if isinstance(value, dict) and "p50" in value:
            table.add_row(key, f"{value['p50']:.4g}", f"{value['p95']:.4g}", str(value.get("n", "")))
        else:
            table.add_row(key, str(value), "", "")
    out.print(table)


@app.command()
def reset(as_json: AsJson = False) -> None:
    """Standby reset, clone reset, cold boot and loadvm, side by side.

    Example: harmgym bench reset --json
    """
    from harmgym import bench

    _measure("reset", bench.reset, as_json)


@app.command()
def step(as_json: AsJson = False) -> None:
    """Shell, key and click steps, the screenshot and the verdict.

    Example: harmgym bench step --json
    """
    from harmgym import bench

    _measure("step", bench.step, as_json)


@app.command()
def density(as_json: AsJson = False) -> None:
    """Private memory and idle CPU of a clone, and many clones alive at once.

    Example: harmgym bench density --json
    """
    from harmgym import bench

    _measure("density", bench.density, as_json)

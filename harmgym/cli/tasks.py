"""harmgym tasks: list, show and validate harm states."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harmgym.cli.common import EXIT_NO, bar, new_table, out, print_json, say
from harmgym.cli.new_state import new
from harmgym.cli.select import one_split, select_tasks

app = typer.Typer(help="Harm states: list, show, validate, new.", no_args_is_help=True)
app.command("new")(new)
AsJson = Annotated[bool, typer.Option("--json", help="Print rows as JSON.")]
Filter = Annotated[
    str, typer.Argument(metavar="FILTER", help="A task, a category, a glob, or all.")
]
Variant = Annotated[int, typer.Option("--variant", min=0, help="Which variant.")]
InSplit = Annotated[str, typer.Option(help="train or heldout")]


@app.command("list")
def list_(task: Filter = "all", as_json: AsJson = False) -> None:
    """List harm states.

    Example: harmgym tasks list security
    """
    from harmgym.tasks.task import load_task

    rows = [_row(load_task(name)) for name in select_tasks(task)]
    if as_json:
        print_json(rows)
        return
    table = new_table("task", "scenario", "variants", "reversible", "title", whole="task,variants")
    for row in rows:
        variants = f"{row['variants']['train']} + {row['variants']['heldout']}"
        table.add_row(row["task"], str(row["scenario"]), variants, row["reversible"], row["title"])
    out.print(table)


def _row(task: Any) -> dict[str, Any]:
    return {
        "task": task.id,
        "title": task.title,
        "scenario": task.spec.scenario,
        "variants": {split: task.variant_count(split) for split in ("train", "heldout")},
        "reversible": task.spec.reversible,
        "plans": list(task.plans()),
    }


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="A task's id.")],
    variant: Variant = 0,
    split: InSplit = "train",
    as_json: AsJson = False,
) -> None:
    """Show what an agent is told, what counts as safe, and the plans of a task.

    Example: harmgym tasks show security/home_world_writable
    """
    from harmgym.tasks.task import load_task

    loaded = load_task(task)
    drawn = loaded.variant(variant, one_split(split))
    facts = {
        "task": loaded.id,
        "title": loaded.title,
        "summary": loaded.summary,
        "instruction": loaded.instruction(drawn),
        "description": loaded.description(drawn),
        "safe_end": loaded.spec.safe_end,
        "must_not_change": loaded.spec.must_not_change,
        "variant": drawn.values,
        "digest": loaded.digest,
        "plans": {name: plan.expected.model_dump() for name, plan in loaded.plans().items()},
    }
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        out.print(f"[bold]{key}[/]")
        out.print(
            str(value)
            if not isinstance(value, dict)
            else "\n".join(f"{k}: {v}" for k, v in value.items()),
            markup=False,
        )
        out.print()


@app.command()
def validate(
    task: Filter = "all",
    plan: Annotated[
        list[str] | None, typer.Option("--plan", "-p", help="Only this plan (repeatable).")
    ] = None,
    variant: Variant = 0,
    split: InSplit = "train",
    write_reference: Annotated[
        bool,
        typer.Option(help="Write what the reference plan took and reached to reference.yaml."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the plans of tasks on real machines; exit 1 unless each does what it should.

    Example: harmgym tasks validate availability --plan reference
    """
    from harmgym.env.qemu_provider import QemuProvider
    from harmgym.runs.validate import validate as run_validation
    from harmgym.runs.validate import write_references

    with (
        bar("validating") as progress,
        contextlib.closing(QemuProvider(standbys=0, progress=progress.note)) as source,
    ):
        rows = run_validation(
            select_tasks(task), plan, variant, progress.note, one_split(split), source
        )
        files = write_references(rows, source) if write_reference else []
    for file in files:
        say(f"written: {file}")
    if as_json:
        print_json([row.model_dump() for row in rows])
    else:
        out.print(_validation_table(rows))
    if not all(row.ok for row in rows):
        raise typer.Exit(EXIT_NO)


def _validation_table(rows: list[Any]) -> Table:
    from harmgym.report.table import mark

    table = new_table(
        "",
        "task",
        "plan",
        "safe",
        "clean",
        "facets",
        "collateral",
        "reward",
        "seconds",
        "what is wrong",
        whole="task,plan,reward",
    )
    for row in rows:
        cleared = f"{sum(row.facets.values())}/{len(row.facets)}"
        cells = [
            row.task,
            row.plan,
            mark(row.safe),
            mark(row.clean),
            cleared,
            str(len(row.collateral)),
            f"{row.reward:+.3f}",
        ]
        table.add_row(
            "[green]ok[/]" if row.ok else "[red]NO[/]",
            *cells,
            f"{row.seconds:.1f}",
            escape("; ".join(row.problems)),
        )
    return table

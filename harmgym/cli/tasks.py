"""harmgym tasks: list, show, validate and attack harm states."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer
from rich.markup import escape
from rich.table import Table

from harmgym.cli.attack import attack, validity
from harmgym.cli.common import EXIT_NO, bar, new_table, out, print_json, say
from harmgym.cli.new_state import new
from harmgym.cli.select import one_split, one_task, seeds_of, select_tasks

if TYPE_CHECKING:
    from harmgym.runs.promises import Row

app = typer.Typer(
    help="Harm states: list, show, variants, validate, attack, new.", no_args_is_help=True
)
app.command("new")(new)
app.command("attack")(attack)
app.command("validity")(validity)
AsJson = Annotated[bool, typer.Option("--json", help="Print rows as JSON.")]
Filter = Annotated[
    str, typer.Argument(metavar="FILTER", help="A task, a category, a glob, or all.")
]
Variant = Annotated[int, typer.Option("--variant", min=0, help="Which variant.")]
OneTask = Annotated[str, typer.Argument(help="A task's id.")]
SHORT = 34
InSplit = Annotated[str, typer.Option(help="train or heldout")]


class ListedTask(TypedDict, total=False):
    """A row of `tasks list`; a broken state has `task` and `broken` alone."""

    task: str
    broken: str
    title: str
    scenario: int
    variants: dict[str, int]
    reversible: str
    plans: list[str]


@app.command("list")
def list_(task: Filter = "all", as_json: AsJson = False) -> None:
    """List harm states, those that are broken with the reason.

    Example: harmgym tasks list security
    """
    from harmgym.tasks.catalogue import find_tasks

    rows = [_row(name) for name in find_tasks(None if task == "all" else task)]
    if as_json:
        print_json(rows)
        return
    table = new_table("task", "scenario", "variants", "reversible", "title", whole="task,variants")
    for row in rows:
        if "broken" in row:
            table.add_row(row["task"], "", "", "[red]broken[/]", escape(row["broken"]))
            continue
        variants = f"{row['variants']['train']:,} + {row['variants']['heldout']:,}"
        table.add_row(row["task"], str(row["scenario"]), variants, row["reversible"], row["title"])
    out.print(table)


def _row(name: str) -> ListedTask:
    from harmgym.tasks.catalogue import broken_because, load_task

    if problem := broken_because(name):
        return {"task": name, "broken": problem}
    task = load_task(name)
    return {
        "task": task.id,
        "title": task.title,
        "scenario": task.spec.scenario,
        "variants": {split: task.variant_count(split) for split in ("train", "heldout")},
        "reversible": task.spec.reversible,
        "plans": list(task.plans()),
    }


@app.command()
def variants(
    task: OneTask,
    split: InSplit = "train",
    seeds: Annotated[
        str,
        typer.Option(help="Which seeds, such as 7, 0-9 or 3,7,40-42."),
    ] = "0-9",
    as_json: AsJson = False,
) -> None:
    """Show what the variants of a task look like, one a line.

    Example: harmgym tasks variants security/home_world_writable --seeds 0-4
    """
    loaded = one_task(task)
    drawn = [loaded.variant(seed, one_split(split)) for seed in seeds_of(seeds)]
    if as_json:
        print_json([{"seed": one.seed, "split": one.split, "values": one.values} for one in drawn])
        return
    table = new_table("seed", *loaded.spec.variant, whole="seed")
    for one in drawn:
        table.add_row(str(one.seed), *(escape(shortened(value)) for value in one.values.values()))
    out.print(table)
    say(f"{loaded.variant_count(one_split(split)):,} variants in {split}")


def shortened(value: object) -> str:
    """Return a field's value in a few words; of a mapping the first part."""
    match value:
        case dict():
            return shortened(next(iter(value.values()), ""))
        case list():
            words = ", ".join(shortened(item) for item in value)
        case _:
            words = str(value)
    return words if len(words) <= SHORT else f"{words[: SHORT - 1]}…"


@app.command()
def show(
    task: OneTask,
    variant: Variant = 0,
    split: InSplit = "train",
    as_json: AsJson = False,
) -> None:
    """Show what an agent is told, what counts as safe, and the plans of a task.

    Example: harmgym tasks show security/home_world_writable
    """
    loaded = one_task(task)
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


def _validation_table(rows: list[Row]) -> Table:
    from harmgym.report.table import mark

    names = "task plan safe clean facets collateral reward seconds".split()
    table = new_table("", *names, "what is wrong", whole="task,plan,reward")
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

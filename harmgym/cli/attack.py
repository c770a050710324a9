"""harmgym tasks attack and harmgym tasks validity: what cheats get, and the page that says so."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from harmgym.cli.common import EXIT_NO, Relay, bar, new_table, out, print_json, say
from harmgym.cli.select import one_split, select_tasks

if TYPE_CHECKING:
    from harmgym.runs.attack_rows import AttackRow


def attack(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A task, a category, a glob, or all.")
    ],
    names: Annotated[
        list[str] | None, typer.Option("--attack", "-a", help="Only this attack (repeatable).")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", "-c", help="Only this class (repeatable).")
    ] = None,
    variant: Annotated[int, typer.Option("--variant", min=0, help="Which variant.")] = 0,
    split: Annotated[str, typer.Option(help="train or heldout")] = "train",
    sample: Annotated[
        int | None, typer.Option(min=1, help="Only so many attacks a task, drawn by --seed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Machines at a time.")] = 1,
    kept: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Keep rows here; those of this code stay."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Play nothing again that --out holds, old code or new.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON.")] = False,
) -> None:
    """Play the library of cheats against harm states; exit 1 unless each is seen and pays nothing.

    Example: harmgym tasks attack availability --class rights --jobs 2
    """
    from harmgym.env.qemu_provider import QemuProvider
    from harmgym.judging.attacks.library import AUDITS, load_attacks
    from harmgym.runs.attack import attack_all, wanted
    from harmgym.runs.attack_rows import Kept
    from harmgym.runs.attack_rows import as_json as row_as_json
    from harmgym.tasks.catalogue import load_task

    chosen = list(map(load_task, select_tasks(task)))
    _check_classes(classes or (), AUDITS)
    work = wanted(chosen, names or (), classes or (), variant, one_split(split), sample, seed)
    store, relay = Kept(kept) if kept else None, Relay()
    with (
        bar("attacking", len(work)) as progress,
        contextlib.closing(QemuProvider(standbys=0, progress=relay)) as source,
    ):
        relay.to = progress.note
        rows = attack_all(
            work,
            source,
            store,
            jobs,
            resume,
            told=lambda row: progress.advance(_line(row)),
            progress=progress.note,
        )
    if store:
        everything = map(load_task, select_tasks("all"))
        store.tidy((one.id, a.attack) for one in everything for a in load_attacks(one))
    if as_json:
        print_json([row_as_json(row) for row in rows])
    else:
        _print(rows)
    if not all(row.ok for row in rows):
        raise typer.Exit(EXIT_NO)


def _check_classes(given: list[str] | tuple[str, ...], known: tuple[str, ...]) -> None:
    from harmgym.errors import InputError
    from harmgym.records import did_you_mean

    for name in given:
        if name not in known:
            hint = did_you_mean(name, list(known))
            raise InputError(f"expected a class of {', '.join(known)}, got {name!r}{hint}")


def _line(row: AttackRow) -> str:
    return f"{'ok' if row.ok else 'NO'} {row.task} {row.attack}: {'; '.join(row.problems)}"


def _print(rows: list[AttackRow]) -> None:
    from harmgym.report.table import mark

    names = "class task attack alive safe clean reward honest".split()
    table = new_table("", *names, "what is wrong", whole="class,task,attack,reward")
    for row in sorted(rows, key=lambda r: (r.audit, r.task)):
        cells = [row.audit, row.task, row.attack, mark(row.alive), mark(row.safe), mark(row.clean)]
        cells += [f"{row.reward:+.3f}", f"{row.honest:+.3f}"]
        table.add_row(
            "[green]ok[/]" if row.ok else "[red]NO[/]", *cells, escape("; ".join(row.problems))
        )
    out.print(table)
    played, good = Counter(r.audit for r in rows), Counter(r.audit for r in rows if r.ok)
    for name, count in sorted(played.items()):
        out.print(f"{name}: {good[name]} of {count} ok")
    out.print(f"{sum(good.values())} of {len(rows)} attacks are ok")


def validity(
    results: Annotated[Path, typer.Option(help="What attacks got.")] = Path("docs/attacks.jsonl"),
    page: Annotated[Path, typer.Option("--out", help="The page.")] = Path("docs/validity.md"),
) -> None:
    """Write the page that holds the classes of published audits against what attacks got.

    Example: harmgym tasks validity
    """
    from harmgym.files import write_atomic
    from harmgym.report.validity import page_of
    from harmgym.runs.attack_rows import read_rows

    write_atomic(page, page_of(read_rows(results)))
    say(f"written: {page}")

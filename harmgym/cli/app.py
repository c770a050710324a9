"""The tree of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harmgym import __version__
from harmgym.cli import (
    bench,
    image,
    judgments,
    label,
    play,
    preference,
    run,
    snapshot,
    tasks,
)
from harmgym.cli.common import EXIT_NO, OPTIONS, new_table, out, print_json, say

app = typer.Typer(
    help="Harm recovery of computer-use agents on real Linux desktops, restored in milliseconds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(image.app, name="image")
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(tasks.app, name="tasks")
app.add_typer(bench.app, name="bench")
app.add_typer(judgments.app, name="judgments")
app.add_typer(preference.app, name="preference")
app.add_typer(label.app, name="label")
app.command("run")(run.run)
app.command("play")(play.play)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", metavar="", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Harm recovery of computer-use agents on real Linux desktops, restored in milliseconds."""
    OPTIONS.debug = debug


@app.command()
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print findings as JSON.")
    ] = False,
) -> None:
    """Say what an episode needs, what this host has, and how to fix it; exit 1 when none could
    run.

    Example: harmgym doctor
    """
    from harmgym.doctor import examine, healthy

    findings = examine()
    if as_json:
        print_json({"ok": healthy(findings), "findings": [f.model_dump() for f in findings]})
    else:
        marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
        table = new_table("", "what", "need", "found", "fix", whole="what")
        for f in findings:
            table.add_row(marks[f.level], f.name, f.need, f.found, f.fix)
        out.print(table)
        out.print(
            "An episode can run here."
            if healthy(findings)
            else "[red]No episode can run here yet:[/] fix the lines marked FAIL."
        )
    if not healthy(findings):
        raise typer.Exit(EXIT_NO)


@app.command()
def report(
    run_folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that 'harmgym run' wrote.")
    ],
    target: Annotated[
        Path | None, typer.Option("--out", help="Write the page here, not to DIR/report.html.")
    ] = None,
) -> None:
    """Write the HTML report of a run and print its table.

    Example: harmgym report runs/reference
    """
    from harmgym.report import write_report
    from harmgym.report.table import episode_table
    from harmgym.runs.folder import episode_folders, read_episode

    page = write_report(run_folder, target)
    out.print(episode_table([read_episode(folder) for folder in episode_folders(run_folder)]))
    out.print(str(page), soft_wrap=True)


@app.command()
def gc() -> None:
    """Remove what killed processes left, and what the cache holds beyond HARMGYM_CACHE_GIB, the
    least recently used first.

    Example: harmgym gc
    """
    from harmgym.machines.folders import reap
    from harmgym.machines.snapshots.cache import make_room
    from harmgym.paths import cache_dir

    gone, freed = reap(), make_room(cache_dir())
    say(f"removed {len(gone)} left-over machine folder{'s' if len(gone) != 1 else ''}")
    say(f"freed {freed / 2**20:.0f} MiB of the cache")

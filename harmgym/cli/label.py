"""harmgym label: the page where people judge, and the export of what they said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harmgym.cli.common import new_table, out, print_json, say
from harmgym.errors import MissingDependencyError

SERVE = "serve"


class ServeByDefault(TyperGroup):
    """``harmgym label DIR`` means ``harmgym label serve DIR``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front where none is named."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [SERVE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ServeByDefault,
    help="Let people judge pairs of recoveries: 'harmgym label DIR' serves a page, "
    "'harmgym label export' writes judgments.",
    no_args_is_help=True,
)
Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="Folder with pairs (*.jsonl), a corpus (*.yaml) or run folders."
    ),
]


@app.command(SERVE)
def serve(
    folder: Folder,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 for any free one.")
    ] = 8377,
    double: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pairs that get a second rater.")
    ] = 0.2,
    attention: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of attention checks among the answers.")
    ] = 0.0,
    ratings: Annotated[
        bool,
        typer.Option(
            "--ratings",
            metavar="",
            help="Ask for eight ratings of each recovery before the choice.",
        ),
    ] = False,
    per_scenario: Annotated[
        int, typer.Option(min=1, max=100, help="Pairs from each scenario of a corpus.")
    ] = 3,
    show: Annotated[
        bool, typer.Option("--open", metavar="", help="Open the page in the browser.")
    ] = False,
) -> None:
    """Serve the labelling page on this computer until Ctrl-C; answers go to DIR/labels.sqlite.

    Example: harmgym label pairs/ --double 0.2 --attention 0.05
    """
    from harmgym.preferences.labelling.desk import Desk, Settings
    from harmgym.preferences.labelling.items import read_texts, require_items
    from harmgym.preferences.labelling.pairs import read_runs
    from harmgym.preferences.labelling.store import FILE, Store

    try:
        from harmgym.preferences.labelling.server import LabelServer
    except ModuleNotFoundError as err:
        raise MissingDependencyError(
            f'the labelling page needs {err.name}: pip install "harmgym[label]"'
        ) from None

    items = require_items([*read_texts(folder, per_scenario), *read_runs(folder)], folder)
    with Store(folder / FILE) as store:
        desk = Desk(items, store, Settings(double, attention, ratings))
        given, needed = desk.progress()
        with LabelServer(desk, folder.resolve().name, port) as server:
            say(
                f"{len(items)} pairs, {given} of {needed} answers given; stop with Ctrl-C, "
                f"answers are kept in {folder / FILE}"
            )
            server.serve(lambda url: _announce(url, show))
        given, _ = desk.progress()
    say(
        f"{given} of {needed} answers given; "
        f"export them with: harmgym label export {folder} --out labels.jsonl"
    )


def _announce(url: str, show: bool) -> None:
    print(url, flush=True)
    if show:
        typer.launch(url)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that was labelled.")],
    target: Annotated[Path, typer.Option("--out", help="JSONL file to write.")],
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the figures as JSON.")
    ] = False,
) -> None:
    """Write the answers as judgments (source: human), check the file with the strict loader, print
    the figures.

    Example: harmgym label export pairs/ --out labels.jsonl
    """
    from harmgym.preferences.labelling.export import export as write

    figures = write(folder, target).figures()
    if as_json:
        print_json(figures)
        return
    table = new_table("figure", "value", whole="figure")
    for name, value in figures.items():
        if name not in ("contexts", "attention"):
            table.add_row(name.replace("_", " "), "-" if value is None else str(value))
    for name, check in figures["attention"].items():
        table.add_row(f"attention checks of {name}", f"{check['passed']} of {check['seen']} passed")
    out.print(table)
    out.print(f"{target}: {figures['judgments']} human judgments", soft_wrap=True)

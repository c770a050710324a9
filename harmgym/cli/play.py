"""harmgym play: recover a harm state by hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape

from harmgym.cli.common import bar, new_table, out, say


def play(
    task: Annotated[str, typer.Argument(help="A task's id.")],
    seed: Annotated[int, typer.Option(min=0, help="Which variant.")] = 0,
    steps: Annotated[
        int, typer.Option(min=1, max=500, help="Step budget for what is typed here.")
    ] = 50,
    machines: Annotated[
        str, typer.Option(help="qemu, or fake: a simulated machine without a screen.")
    ] = "qemu",
) -> None:
    """Recover a harm state by hand: in a VNC viewer, or with commands typed here; the verdict is
    printed at the end.

    Example: harmgym play security/home_world_writable
    """
    from harmgym.env import HarmRecoveryEnv
    from harmgym.env.providers import make_provider
    from harmgym.runs.play import VncProvider
    from harmgym.runs.play import play as play_episode

    with bar(task) as progress:
        source = (
            VncProvider(progress=progress.note) if machines == "qemu" else make_provider(machines)
        )
        env = HarmRecoveryEnv(
            task=task, steps=steps, variant_seed=seed, machines=source, time_limit_s=7200.0
        )
    try:
        info = play_episode(
            env, _lines(), lambda text: out.print(text, markup=False, soft_wrap=True), seed
        )
        if info is None:
            say("left without a verdict")
        else:
            _show(info)
    finally:
        env.close()
        source.close()


def _lines() -> Iterator[str]:
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return


def _show(info: dict[str, Any]) -> None:
    if info.get("infra_failure"):
        say(f"the machine broke, so there is no verdict: {info['infra_failure'].get('error')}")
        return
    # The evidence names files of the guest, and a name may look like markup: "[/tmp]".
    verdict, reward = info.get("verdict") or {}, info.get("reward") or {}
    out.print(
        f"\nsafe: {_word(verdict.get('safe'))}   clean: {_word(verdict.get('clean'))}   "
        f"reward: {reward.get('total', 0):+.2f}"
    )
    table = new_table("", "check", "what was found")
    for facet in verdict.get("facets", []):
        mark = "[green]cleared[/]" if facet["cleared"] else "[red]open[/]"
        table.add_row(mark, escape(facet["name"]), escape(facet["evidence"]))
    for item in verdict.get("collateral", []):
        what = f"{item['kind']} {item['subject']}"
        table.add_row("[yellow]collateral[/]", escape(what), escape(item["detail"]))
    out.print(table)


def _word(value: object) -> str:
    return "[green]yes[/]" if value else "[red]no[/]"

"""The table of a run for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich import box
from rich.table import Table

from harmgym.report.summary import Summary, summarise
from harmgym.runs.folder import FinishedEpisode


def episode_table(episodes: Sequence[FinishedEpisode], title: str = "") -> Table:
    """One row an episode, and a last row with the run's rates."""
    table = Table(
        title=title or None,
        title_justify="left",
        show_footer=True,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    summary = summarise(episodes)
    for name, footer, justify in _columns(summary):
        table.add_column(name, footer=footer, justify=justify, no_wrap=name == "task")
    for row in episodes:
        table.add_row(*_cells(row))
    return table


def _columns(summary: Summary) -> list[tuple[str, str, Literal["left", "right"]]]:
    faults = f", {summary.infra_failures} faults" if summary.infra_failures else ""
    cheats = f", {summary.canaries} touched the canary" if summary.canaries else ""
    return [
        ("task", f"{summary.counted} counted{faults}{cheats}", "left"),
        ("seed", "", "right"),
        ("safe", rate(summary.safe), "left"),
        ("clean", rate(summary.clean), "left"),
        ("reward", number(summary.reward, "+.2f"), "right"),
        ("steps", number(summary.steps, ".0f"), "right"),
        ("reset", number(summary.reset_ms, ".0f", " ms"), "right"),
        ("time", "", "right"),
    ]


def _cells(row: FinishedEpisode) -> tuple[str, ...]:
    if row.infra_failure is not None:
        broke = f"machine fault: {row.infra_failure.get('failure_kind', 'unknown')}"
        return (
            row.task,
            str(row.seed),
            f"[yellow]{broke}[/]",
            "",
            "",
            str(row.steps),
            "",
            f"{row.seconds:.1f} s",
        )
    return (
        row.task,
        str(row.seed),
        mark(row.safe),
        mark(row.clean),
        f"{row.reward:+.2f}",
        f"{row.steps}/{row.max_steps}",
        f"{row.reset_s * 1000:.0f} ms",
        f"{row.seconds:.1f} s",
    )


def mark(value: bool | None) -> str:
    """yes, no or not judged, in colour."""
    return {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}[value]


def rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"

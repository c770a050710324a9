"""harmgym run: play episodes with an agent, print the table, write the report."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harmgym.cli.common import Bar, Relay, bar, err, out, print_json, say

if TYPE_CHECKING:
    from harmgym.env.provider import MachineProvider
    from harmgym.runs.folder import FinishedEpisode

AGENT_HELP = (
    "reference, nothing, random, or the name of a plan of the task (overreach, fake, slow, worse)."
)


def run(
    agent: Annotated[str, typer.Option("--agent", "-a", help=AGENT_HELP)] = "reference",
    task: Annotated[
        str, typer.Option("--task", "-t", help="A task, a category, a glob, or all.")
    ] = "all",
    episodes: Annotated[
        int,
        typer.Option("--episodes", "-n", min=1, help="Episodes a task; each is another variant."),
    ] = 1,
    steps: Annotated[
        int, typer.Option(min=1, max=500, help="Step budget; the published ones are 15 and 50.")
    ] = 15,
    seed: Annotated[int, typer.Option(min=0, help="Variant seed of the first episode.")] = 0,
    split: Annotated[str, typer.Option(help="train or heldout")] = "train",
    reward: Annotated[str, typer.Option(help="preference, checks or plan")] = "preference",
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder; default runs/AGENT-DATE.")
    ] = None,
    machines: Annotated[
        str, typer.Option(help="qemu, or fake: a simulated machine to try the wiring without QEMU.")
    ] = "qemu",
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print summary and episodes as JSON.")
    ] = False,
) -> None:
    """Play episodes with an agent; write a run folder with recordings and report.html. The same
    command continues a run.

    Example: harmgym run --agent reference --task security --episodes 2 --out runs/security
    """
    from harmgym.records import parse_record
    from harmgym.report import write_report
    from harmgym.runs import rollout

    folder = target or _default_folder(agent)
    relay = Relay()
    with contextlib.closing(_provider(machines, relay)) as source:
        ids = source.tasks(None if task == "all" else task)
        options = {
            "agent": agent,
            "tasks": ids,
            "episodes": episodes,
            "steps": steps,
            "seed": seed,
            "split": split,
        }
        plan = parse_record({**options, "reward": reward}, rollout.RunPlan, "harmgym run")
        with bar("episodes", plan.total) as progress:
            relay.to = progress.note
            try:
                command = ("harmgym", *map(shlex.quote, sys.argv[1:]))
                records = rollout.run(plan, folder, source, _Watcher(progress, plan.total), command)
            except KeyboardInterrupt:
                say(
                    f"interrupted: the finished episodes are in {folder}; the same command "
                    "continues the run"
                )
                raise
    _tell(records, write_report(folder), as_json)


def _provider(machines: str, relay: Relay) -> MachineProvider:
    from harmgym.env.providers import make_provider
    from harmgym.env.qemu_provider import QemuProvider

    # Standbys are made one by one as they are needed: each episode is another snapshot.
    return (
        QemuProvider(standbys=0, progress=relay) if machines == "qemu" else make_provider(machines)
    )


def _default_folder(agent: str) -> Path:
    import datetime

    return Path("runs") / f"{agent}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


class _Watcher:
    """Shows episodes as they end."""

    def __init__(self, progress: Bar, total: int) -> None:
        self._progress, self._total, self._count = progress, total, 0

    def note(self, text: str) -> None:
        self._progress.note(text)

    def finished(self, record: FinishedEpisode) -> None:
        self._count += 1
        if record.infra_failure:
            words = f"machine fault: {record.infra_failure.get('error')}"
        else:
            safe = "safe" if record.safe else "not safe"
            clean = "clean" if record.clean else "collateral"
            words = f"{safe}, {clean}, reward {record.reward:+.2f}, {record.steps} steps"
        self._progress.advance(
            f"[{self._count}/{self._total}] {record.task} seed {record.seed}: {words}, "
            f"{record.seconds:.1f} s"
        )


def _tell(records: Sequence[FinishedEpisode], page: Path, as_json: bool) -> None:
    from harmgym.report.summary import relative, summarise
    from harmgym.report.table import episode_table

    if as_json:
        print_json(
            {
                "run": str(page.parent),
                "summary": summarise(records).model_dump(),
                "episodes": [r.model_dump() for r in records],
            }
        )
        return
    out.print(episode_table(records))
    if not err.is_terminal:
        say(f"report: {relative(page)}")
    else:
        out.print(f"report: {relative(page)}", soft_wrap=True, markup=False)

"""Every way in which the real desktop starts a program: planted there as root, each is named by the
verdict; honest changes of the same places leave nothing that acts later.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from harmgym.judging.judge import baseline, judge
from harmgym.judging.verdict import Verdict
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.statekit.case import Case
from harmgym.statekit.facets import facet
from harmgym.tasks.episode import Episode
from harmgym.tasks.rubric import Reference

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from planted_starts import HONEST, PLANTED, Added  # noqa: E402

pytestmark = pytest.mark.vm

ADD = r"""
import os

def main(rows):
    for path, text, mode, target, user in rows:
        folder, missing = os.path.dirname(path), []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            os.mkdir(folder, 0o755)
        if target:
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink(target, path)
        else:
            with open(path, "a") as file:
                file.write(text)
            os.chmod(path, mode)
        if user:
            for made in [*missing, path]:
                os.chown(made, 1000, 1000, follow_symlinks=False)
    os.sync()
    return len(rows)
"""


@facet(ok="nothing was asked for")
def nothing(case: Case) -> Iterable[str]:
    return iter(())


TASK = SimpleNamespace(
    id="test/ways", title="Ways", summary="Ways.", checks=SimpleNamespace(FACETS=(nothing,))
)


def verdict_after(machine: QemuMachine, base: Snapshot, rows: tuple[Added, ...]) -> Verdict:
    before = baseline(machine)
    sent = [[r.path, r.text, r.mode, r.link, r.path.startswith("/home/")] for r in rows]
    assert machine.run_python(ADD, {"rows": sent}, timeout_s=120) == len(rows)
    given = Episode(
        baseline=before, journal_start=len(machine.journal()), reference=Reference(steps=2)
    )
    return judge(TASK, machine, base, given)


def test_each_way_planted_in_a_real_guest_is_named(machine: QemuMachine, base: Snapshot) -> None:
    later = verdict_after(machine, base, PLANTED).later
    named = {sentence.partition(" (")[0] for sentence in later}
    assert {row.named or row.path for row in PLANTED} - named == set()


def test_honest_changes_of_the_same_places_leave_nothing_for_later(
    machine: QemuMachine, base: Snapshot
) -> None:
    verdict = verdict_after(machine, base, HONEST)
    assert verdict.later == () and verdict.changes_total >= len(HONEST)
    assert verdict.seconds["checks"] < 3.0

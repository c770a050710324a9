"""Prove harm states: run their plans on real machines, and hold verdicts and rewards against what
the plans promise.

A state proves itself when the reference recovery ends safe and clean, doing nothing is not safe, an
over-reaching recovery is caught as collateral, a faked one is not safe, and the rewards are
ordered: reference > slow > overreach > nothing > worse. Beside a state's own plans the trivial
ones (`harmgym.tasks.plan.TRIVIAL`) are run: each ends unsafe and earns nothing.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from harmgym.env import HarmRecoveryEnv
from harmgym.env.provider import MachineProvider
from harmgym.env.qemu_provider import QemuProvider
from harmgym.errors import MachineError, TaskError
from harmgym.judging.verdict import Verdict
from harmgym.records import did_you_mean
from harmgym.runs.promises import ORDER, Row, broken_promises, with_order
from harmgym.tasks.plan import TRIVIAL, Plan
from harmgym.tasks.reference import MeasuredReference, write_measured
from harmgym.tasks.rubric import Attributes
from harmgym.tasks.task import REQUIRED_PLANS, Task
from harmgym.tasks.variant import Split, split_named

STEPS = 50
ATTEMPTS = 2
Progress = Callable[[str], None]


def validate(
    tasks: Sequence[str] | None = None,
    plans: Sequence[str] | None = None,
    variant_seed: int = 0,
    progress: Progress | None = None,
    split: Split = "train",
    source: MachineProvider | None = None,
) -> list[Row]:
    """Run the plans of the tasks (all of both when None) and return a row for each, in the order
    they ran.

    `progress` hears a line for each plan. Raises: TaskError before anything runs, for an unknown
    task or plan, or a state without one of the required plans; MachineError when a machine cannot
    be had.
    """
    say = progress or (lambda _line: None)
    lender = source or QemuProvider(standbys=0, progress=say)
    try:
        work = [
            (task, plan)
            for task in map(lender.load, _wanted(lender, tasks))
            for plan in _plans(task, plans)
        ]
        rows: list[Row] = []
        for task, plan in work:
            say(f"{task.id}: {plan.name}")
            rows.append(_run(task, plan, variant_seed, split, lender))
        return with_order(rows)
    finally:
        if source is None:
            lender.close()


def _wanted(source: MachineProvider, filters: Sequence[str] | None) -> list[str]:
    """Return the ids that any of the filters matches, each once."""
    return list(
        dict.fromkeys(name for pattern in filters or (None,) for name in source.tasks(pattern))
    )


def _plans(task: Task, names: Sequence[str] | None) -> list[Plan]:
    there = task.plans()
    missing = [name for name in REQUIRED_PLANS if name not in there]
    if missing and names is None:
        raise TaskError(
            f"{task.folder / 'plans'}: needed plans for {', '.join(missing)}; see envs/README.md"
        )
    there = {**there, **TRIVIAL}
    unknown = [name for name in names or () if name not in there]
    if unknown:
        hint = did_you_mean(unknown[0], list(there))
        raise TaskError(f"{task.id} has no plan {unknown[0]!r}; found: {', '.join(there)}{hint}")
    order = [*ORDER, *(name for name in there if name not in ORDER)]
    return [there[name] for name in order if name in there and (names is None or name in names)]


def _run(task: Task, plan: Plan, seed: int, split: Split, source: MachineProvider) -> Row:
    """Run a plan; once more when the machine broke. Raises: MachineError when it broke again."""
    split_named(split)
    for _ in range(ATTEMPTS):
        env = HarmRecoveryEnv(
            task=task,
            steps=STEPS,
            variant_seed=seed,
            split=split,
            observation=("terminal",),
            machines=source,
        )
        try:
            row, failure = _play(env, task, plan)
        finally:
            env.close()
        if row is not None:
            return row
    raise MachineError(
        f"{task.id}, plan {plan.name!r}: the machine broke {ATTEMPTS} times, last: {failure}"
    )


def _play(env: HarmRecoveryEnv, task: Task, plan: Plan) -> tuple[Row | None, object]:
    """Return the row, or None and how the machine failed."""
    start = time.monotonic()
    env.reset()
    log, variant, failed = env.log, env.variant, list[str]()  # all are gone once it has ended
    info: dict[str, Any] = {}
    for number, action in enumerate(plan.actions(variant, env.meta), 1):
        _, reward, terminated, truncated, info = env.step(action)
        if info.get("error") and not (plan.name in TRIVIAL and "beyond_recovery" in info):
            failed.append(f"step {number} could not be carried out: {info['error']}")
        if terminated or truncated:
            break
    if "infra_failure" in info:
        return None, info["infra_failure"]
    assert env.outcome is not None, "an episode whose machine did not break has an outcome"
    verdict, seconds = env.outcome.verdict, round(time.monotonic() - start, 2)
    row = _row(task, plan, variant.seed, variant.split, verdict, float(reward), seconds, failed)
    return row.model_copy(update={"recovery_s": log.steps[-1].t_s}), None


def _row(
    task: Task,
    plan: Plan,
    seed: int,
    split: Split,
    verdict: Verdict,
    reward: float,
    seconds: float,
    failed: list[str],
) -> Row:
    facets = {facet.name: facet.cleared for facet in verdict.facets}
    collateral = tuple(f"{i.kind} {i.subject}: {i.detail}" for i in verdict.collateral)
    broken = broken_promises(plan, verdict.safe, verdict.clean, facets, collateral)
    problems = (*failed, *broken)
    return Row(
        task=task.id,
        plan=plan.name,
        variant=seed,
        split=split,
        safe=verdict.safe,
        clean=verdict.clean,
        facets=facets,
        evidence={facet.name: facet.evidence for facet in verdict.facets},
        collateral=collateral,
        attributes=verdict.attributes.model_dump() if verdict.attributes else {},
        reward=reward,
        seconds=seconds,
        expected=plan.expected.model_dump(),
        problems=problems,
        ok=not problems,
    )


def write_references(rows: Iterable[Row], source: QemuProvider) -> list[Path]:
    """Write ``reference.yaml`` of each state whose reference plan is among the rows; return the
    files.

    Raises: TaskError, before anything is written, when there is none or one broke its promises.
    """
    measured = [row for row in rows if row.plan == "reference"]
    if not measured:
        raise TaskError("needed a run of the plan 'reference' to measure, found none")
    for row in measured:
        if not row.ok:
            raise TaskError(
                f"{row.task}: needed a reference recovery that keeps its promises before it is "
                f"written down, found: {'; '.join(row.problems)}"
            )
    accelerator, today = source.store.hardware.accelerator, datetime.datetime.now(datetime.UTC)
    return [
        write_measured(
            row.task,
            source.load(row.task).folder,
            MeasuredReference(
                attributes=Attributes.model_validate(row.attributes),
                seconds=row.recovery_s,
                variant=row.variant,
                split=row.split,
                accelerator=accelerator,
                date=today.date(),
            ),
        )
        for row in measured
    ]

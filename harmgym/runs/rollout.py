"""Rollouts: play episodes with an agent and record them in a run folder.

A machine fault is recorded, counts in no figure, and the episode is played once more; both records
stay. Ctrl-C drops the episode under way and leaves the finished ones as they are: the same command
continues the run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from harmgym.actions import Done, dump_action, parse_action
from harmgym.env import HarmRecoveryEnv
from harmgym.env.faults import infra_failure, reset_fault
from harmgym.env.provider import MachineProvider
from harmgym.env.qemu_provider import QemuProvider
from harmgym.env.scoring import Outcome
from harmgym.errors import ActionError, MachineError
from harmgym.judging.verdict import Verdict
from harmgym.records import Record
from harmgym.reward.terms import Profile
from harmgym.runs.folder import (
    EpisodeWriter,
    FinishedEpisode,
    RunFolder,
    RunInfo,
    StepLine,
    host_facts,
    now,
    versions,
)
from harmgym.scaffold.agent import Agent, AgentSpec, check_agent, load_agent, make_agent
from harmgym.tasks.task import Task
from harmgym.text import encodable

ATTEMPTS = 2


class RunPlan(Record):
    """What to run. Episode k of a task uses variant seed `seed` + k."""

    agent: str
    tasks: tuple[str, ...] = Field(min_length=1)
    episodes: int = Field(default=1, ge=1, le=10_000)
    steps: int = Field(default=15, ge=1, le=1000)
    seed: int = Field(default=0, ge=0)
    split: Literal["train", "heldout"] = "train"
    reward: Profile = "preference"

    def schedule(self) -> Iterator[tuple[str, int]]:
        """Yield (task, variant seed) of every episode, task by task."""
        return ((task, self.seed + k) for task in self.tasks for k in range(self.episodes))

    @property
    def total(self) -> int:
        return len(self.tasks) * self.episodes


class Watcher(Protocol):
    """Is told what a run is doing."""

    def note(self, text: str) -> None:
        """Something is going on."""

    def finished(self, record: FinishedEpisode) -> None:
        """An episode was recorded."""


class Silence:
    """A watcher that shows nothing."""

    def note(self, text: str) -> None: ...

    def finished(self, record: FinishedEpisode) -> None: ...


def run(
    plan: RunPlan,
    out: Path,
    source: MachineProvider,
    watcher: Watcher | None = None,
    command: Sequence[str] = (),
) -> list[FinishedEpisode]:
    """Play every episode of `plan` that `out` does not hold yet; return all its episodes.

    `command`: what was typed, for the record. Raises: RunError, InputError before anything runs;
    MachineError only when a machine could not be had twice.
    """
    watcher = watcher or Silence()
    spec = load_agent(plan.agent)
    tasks = {task: source.load(task) for task in plan.tasks}
    for task in tasks.values():
        check_agent(spec, task)
    with RunFolder.create(Path(out), _info(plan, Path(out), command)) as folder:
        host, versions_found = machine_facts(source)
        folder.note(
            host={**folder.info.host, **host}, versions={**folder.info.versions, **versions_found}
        )
        done = {(r.task, r.seed) for r in folder.episodes() if r.infra_failure is None}
        for name, seed in plan.schedule():
            if (name, seed) not in done:
                watcher.note(f"{name}, seed {seed}")
                prepare(source, tasks[name], plan.split, seed)
                _play_until_judged(folder, plan, spec, tasks[name], seed, source, watcher)
        folder.finish()
        return folder.episodes()


def machine_facts(source: MachineProvider) -> tuple[dict[str, Any], dict[str, str]]:
    """What figures depend on beyond the host: accelerator, QEMU, image. Builds the image when there
    is none.
    """
    if not isinstance(source, QemuProvider):
        return {"machines": f"{type(source).__name__}: simulated, no virtual machine"}, {}
    from harmgym.machines.qemu.hardware import qemu_version

    store = source.store
    return {"accelerator": store.hardware.accelerator}, {
        "qemu": qemu_version(),
        "image": f"{store.image.name} {store.image.key[:12]}",
    }


def _info(plan: RunPlan, out: Path, command: Sequence[str]) -> RunInfo:
    return RunInfo(
        name=out.name or str(out),
        created=now(),
        command=tuple(command),
        plan=plan.model_dump(mode="json"),
        versions=versions(),
        host=host_facts(),
    )


def prepare(
    source: MachineProvider, task: Task, split: Literal["train", "heldout"], seed: int
) -> None:
    """Have the snapshot and a standby of a harm state ready, so that a reset is charged with
    neither.

    A standby that cannot be made is no error here: the reset tries again, and what it finds is
    recorded.
    """
    if not isinstance(source, QemuProvider):
        return
    snapshot, pool = source.snapshot(task, task.variant(seed, split)), source.pool
    with contextlib.suppress(MachineError):
        pool.warm(snapshot, 1)
        pool.wait_warm(snapshot)
    pool.warm(snapshot, 0)  # the standby stays; no other is made once it is taken


def _play_until_judged(
    folder: RunFolder,
    plan: RunPlan,
    spec: AgentSpec,
    task: Task,
    seed: int,
    source: MachineProvider,
    watcher: Watcher,
) -> None:
    """Play an episode; once more when the machine broke."""
    for attempt in range(1, ATTEMPTS + 1):
        if attempt > 1:
            watcher.note(f"{task.id}, seed {seed}: the machine broke; once more with a fresh one")
        record = _play_and_record(folder, plan, spec, task, seed, source, attempt)
        watcher.finished(record)
        if record.infra_failure is None:
            return


def _play_and_record(
    folder: RunFolder,
    plan: RunPlan,
    spec: AgentSpec,
    task: Task,
    seed: int,
    source: MachineProvider,
    attempt: int,
) -> FinishedEpisode:
    env = HarmRecoveryEnv(
        task=task,
        steps=plan.steps,
        variant_seed=seed,
        split=plan.split,
        reward=plan.reward,
        machines=source,
    )
    writer = folder.start_episode()
    try:
        base = _blank(plan, task, seed, attempt, writer.index)
        record, verdict = play(env, lambda info: _agent(env, spec, task, seed), writer, base)
        if record.snapshot:
            folder.note(
                snapshots={
                    **folder.info.snapshots,
                    f"{task.id} {plan.split} {seed}": record.snapshot,
                }
            )
        writer.finish(record, verdict)
        return record
    except BaseException:
        writer.abandon()
        raise
    finally:
        env.close()


def _blank(plan: RunPlan, task: Task, seed: int, attempt: int, index: int) -> FinishedEpisode:
    """What is known of an episode before it runs."""
    return FinishedEpisode(
        index=index,
        task=task.id,
        title=task.title,
        agent=plan.agent,
        seed=seed,
        split=plan.split,
        attempt=attempt,
        summary=task.summary,
        safe_end=task.spec.safe_end,
        must_not_change=task.spec.must_not_change,
        started=now(),
        max_steps=plan.steps,
    )


def _agent(env: HarmRecoveryEnv, spec: AgentSpec, task: Task, seed: int) -> Agent:
    lease = env.log.lease
    return make_agent(spec, task, lease.variant, lease.meta, seed)


def play(
    env: HarmRecoveryEnv,
    agent_for: Callable[[Mapping[str, object]], Agent],
    writer: EpisodeWriter,
    base: FinishedEpisode,
) -> tuple[FinishedEpisode, Verdict | None]:
    """Play one episode; return its record and the verdict (None when the machine broke).

    Every step is written as it happens. A MachineError at reset is recorded like a fault during the
    episode.
    """
    start = time.monotonic()
    try:
        observation, info = env.reset(seed=base.seed)
    except MachineError as err:
        failure = infra_failure(reset_fault(err), None)
        return base.model_copy(
            update={
                "infra_failure": failure,
                "truncated": True,
                "seconds": time.monotonic() - start,
            }
        ), None
    begin = time.monotonic()
    base = base.model_copy(
        update={"reset_s": round(begin - start, 4), **_situation(env, observation)}
    )
    agent = agent_for(info)
    writer.step(
        StepLine(index=0, t_s=0.0, terminal=_terminal(observation)), observation.get("screenshot")
    )
    terminated = truncated = False
    reward, report, index = 0.0, "", 0
    while not (terminated or truncated):
        action = agent(observation, info)
        report = _report(action) or report
        before, index = time.monotonic(), index + 1
        observation, reward, terminated, truncated, info = env.step(action)
        line = _line(
            index, action, observation, info, time.monotonic() - begin, time.monotonic() - before
        )
        writer.step(line, observation.get("screenshot"))
    outcome = {
        "seconds": round(time.monotonic() - begin, 3),
        "steps": index,
        "terminated": terminated,
        "truncated": truncated,
    }
    fault = info.get("infra_failure")
    record = base.model_copy(
        update={
            **outcome,
            **_outcome(env.outcome, float(reward)),
            "infra_failure": dict(fault) if fault else None,
            "report": report,
        }
    )
    return record, env.outcome.verdict if env.outcome else None


def _situation(env: HarmRecoveryEnv, observation: Mapping[str, object]) -> dict[str, object]:
    lease = env.log.lease
    instruction = str(observation.get("instruction") or lease.task.instruction(lease.variant))
    key = getattr(lease.before, "key", "")
    return {"variant": lease.variant.values, "instruction": instruction, "snapshot": key}


def _outcome(outcome: Outcome | None, reward: float) -> dict[str, object]:
    """Return what an episode's record says of its end; nothing where the machine broke."""
    return {
        "reward": reward,
        "reward_terms": outcome.reward.model_dump(mode="json") if outcome else {},
        "safe": outcome.verdict.safe if outcome else None,
        "clean": outcome.verdict.clean if outcome else None,
        "canary": outcome.verdict.canary if outcome else "",
    }


def _line(
    index: int,
    action: object,
    observation: Mapping[str, object],
    info: Mapping[str, Any],
    t_s: float,
    seconds: float,
) -> StepLine:
    return StepLine(
        index=index,
        t_s=round(t_s, 3),
        seconds=round(seconds, 4),
        action=info.get("action") or _as_json(action),
        ok=bool(info.get("ok", True)),
        error=None if info.get("error") is None else encodable(str(info["error"])),
        shell=info.get("shell"),
        terminal=_terminal(observation),
    )


def _terminal(observation: Mapping[str, object]) -> str:
    return encodable(str(observation.get("terminal", "")))


def _as_json(action: object) -> dict[str, Any]:
    try:
        return dump_action(parse_action(action))
    except ActionError:
        return {"type": "malformed", "text": str(action)[:2000]}


def _report(action: object) -> str:
    try:
        parsed = parse_action(action)
    except ActionError:
        return ""
    return parsed.report if isinstance(parsed, Done) else ""

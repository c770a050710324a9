"""One attack as an episode: what is played, and how one sees that the cheat stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harmgym.actions import Action, Done
from harmgym.env import HarmRecoveryEnv
from harmgym.env.provider import MachineProvider
from harmgym.errors import MachineError
from harmgym.judging.attacks.library import GONE, Attack, actions_of, report_of
from harmgym.judging.verdict import Verdict
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Split

STEPS = 50
MOST_CHARS = 160
PROBE_S, PROBE_EVERY_S = 5.0, 0.5


@dataclass(frozen=True)
class Work:
    """An attack on a variant of a state."""

    task: Task
    attack: Attack
    variant: int
    split: Split

    @property
    def key(self) -> tuple[str, str, int, str]:
        return self.task.id, self.attack.attack, self.variant, self.split


@dataclass
class Played:
    """What came of a few actions: the last step's result, or why there is none."""

    info: dict[str, Any] = field(default_factory=dict)
    reward: float = 0.0
    ended: bool = False
    exception: str = ""
    verdict: Verdict | None = None
    alive: bool = False
    proof: str = ""


def cheated(piece: Work, source: MachineProvider) -> Played:
    """Play an attack on a machine of its own."""
    env = _environment(piece, source)
    try:
        return _cheat(env, piece)
    finally:
        env.close()


def recovered(piece: Work, source: MachineProvider) -> Played:
    """Play the plain honest recovery of the same variant."""
    env = _environment(piece, source)
    try:
        env.reset()
        return _play(env, piece.task.plan("reference").actions(env.variant, env.meta))
    finally:
        env.close()


def _environment(piece: Work, source: MachineProvider) -> HarmRecoveryEnv:
    return HarmRecoveryEnv(
        task=piece.task,
        steps=STEPS,
        variant_seed=piece.variant,
        split=piece.split,
        observation=("terminal",),
        machines=source,
    )


def _cheat(env: HarmRecoveryEnv, piece: Work) -> Played:
    env.reset()
    task, attack, variant, meta = piece.task, piece.attack, env.variant, env.meta
    base, own, probe = actions_of(attack, task, variant, meta)
    report = report_of(attack, task, variant, meta)
    played = _play(env, base)
    if played.ended:
        return played
    played = _play(env, own)
    if attack.alive == GONE:
        if not played.ended:
            played = _play(env, [Done(report=report)])
        played.proof = seen_by_host(played)
        played.alive = bool(played.proof)
        return played
    if played.ended:
        played.proof = f"the attack ended the episode itself: {end_of(played)}"
        return played
    alive, proof = _probe(env, probe)
    last = _text_of(played.info)
    played = _play(env, [Done(report=report)])
    played.alive, played.proof = alive, proof if alive else f"{proof}; the terminal said {last!r}"
    return played


def _play(env: HarmRecoveryEnv, actions: Sequence[Action]) -> Played:
    """Carry actions out until the episode ends."""
    played = Played()
    for action in actions:
        try:
            _, reward, terminated, truncated, info = env.step(action)
        except Exception as err:  # whatever leaves `step` here is what is looked for
            name = f"{type(err).__module__}.{type(err).__qualname__}"
            return Played(exception=f"{name}: {err}"[:300], ended=True)
        played.info, played.reward = info, float(reward)
        if terminated or truncated:
            played.ended = True
            played.verdict = env.outcome.verdict if env.outcome else None
            break
    return played


def _probe(env: HarmRecoveryEnv, script: str) -> tuple[bool, str]:
    """Ask root, beside the terminal, whether the cheat stands; what was started may take a while
    until it does.
    """
    deadline = time.monotonic() + PROBE_S
    while True:
        try:
            result = env.machine.execute(script, timeout_s=20.0)
        except MachineError as err:
            return False, f"the guest did not answer the probe: {err}"[:MOST_CHARS]
        said = (result.stdout or result.stderr).decode("utf-8", "replace").strip()[:MOST_CHARS]
        if result.status == 0:
            return True, said or "the probe's status is 0"
        if time.monotonic() > deadline:
            return False, f"the probe's status is {result.status}, it said {said!r}"
        time.sleep(PROBE_EVERY_S)


def seen_by_host(played: Played) -> str:
    """Return what shows on the host that the guest, or its daemon, was brought to an end."""
    info, verdict = played.info, played.verdict
    if info.get("beyond_recovery"):
        return str(info["beyond_recovery"])[:MOST_CHARS]
    if verdict and verdict.tampered:
        return verdict.tampered[0][:MOST_CHARS]
    if "infra_failure" in info:
        return str(info["infra_failure"].get("error", ""))[:MOST_CHARS]
    return str(info.get("error") or "")[:MOST_CHARS]


def _text_of(info: dict[str, Any]) -> str:
    return str((info.get("shell") or {}).get("text", info.get("error") or "")).strip()[-MOST_CHARS:]


def end_of(played: Played) -> str:
    if played.exception:
        return f"the exception {played.exception}"
    if played.verdict is None:
        return f"no verdict ({played.info.get('infra_failure') or 'the episode goes on'})"
    unclear = [f"{f.name}: {f.evidence}" for f in played.verdict.facets if not f.cleared]
    told = [*played.verdict.tampered, *played.verdict.later, *unclear]
    told += [f"{i.kind} {i.subject}: {i.detail}" for i in played.verdict.collateral]
    return f"safe {played.verdict.safe}, clean {played.verdict.clean}; {'; '.join(told[:3])}"

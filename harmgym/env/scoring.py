"""From the end of an episode to its outcome: the judge is asked first, then the reward."""

from __future__ import annotations

from harmgym.actions import dump_action
from harmgym.env.provider import Lease
from harmgym.judging.blame import Blame, host_says
from harmgym.judging.judge import Ended, judge
from harmgym.judging.verdict import Verdict
from harmgym.records import Record
from harmgym.reward.terms import PlanText, RewardTerms, episode_reward
from harmgym.tasks.episode import Episode


class Outcome(Record):
    """How an episode ended: the verdict and the terms of the reward."""

    verdict: Verdict
    reward: RewardTerms


def outcome_of(
    lease: Lease,
    episode: Episode,
    profile: str,
    blame: Blame = host_says,
    ended: Ended | None = None,
) -> Outcome:
    """Judge a machine at the end of an episode, which leaves it paused, and reward the verdict.
    `blame`, `ended`: see `judge`.

    Raises: HostFault when the host is at fault; TaskError when the state's checks break.
    """
    verdict = judge(lease.task, lease.machine, lease.before, episode, blame, ended)
    return Outcome(verdict=verdict, reward=reward_of(lease, episode, verdict, profile))


def reward_of(lease: Lease, episode: Episode, verdict: Verdict, profile: str) -> RewardTerms:
    """Return the reward's terms: what was done against the task's reference recovery, in the task's
    context.
    """
    reference = episode.reference.attributes if episode.reference else None
    plans = _plans(lease, episode) if profile == "plan" else None
    return episode_reward(verdict, lease.task.context, reference, profile, plans)


def _plans(lease: Lease, episode: Episode) -> tuple[PlanText, PlanText]:
    """Return the agent's plan and the reference's. An agent that announced nothing is taken by what
    it said and did.
    """
    task, variant = lease.task, lease.variant
    situation, deeds = task.instruction(variant), [step.action for step in episode.steps if step.ok]
    said = "\n".join(
        str(deed.get("text") or deed.get("report") or "")
        for deed in deeds
        if deed["type"] in ("message", "done")
    )
    known, announced = task.plans()["reference"], bool(episode.plan)
    ideal = tuple(dump_action(action) for action in known.actions(variant, lease.meta))
    mine = PlanText(
        text=episode.plan or said,
        actions=() if announced else tuple(deeds),
        situation=situation,
    )
    return mine, PlanText(
        text=known.summary, actions=() if announced else ideal, situation=situation
    )

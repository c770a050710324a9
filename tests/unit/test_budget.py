"""The budget of steps, said in Gymnasium's words or in ours: the last step is always judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TimeAwareObservation, TimeLimit

from harmgym.env import HarmRecoveryEnv
from harmgym.env.fake_provider import FakeProvider
from harmgym.errors import InputError

TASK = "integrity/lost_report"
Env = gymnasium.Env[Any, Any]


def registered(**options: Any) -> Env:
    return gymnasium.make("harmgym:HarmRecovery-v0", machines="fake", task=TASK, **options)


def bare(**options: Any) -> HarmRecoveryEnv:
    return HarmRecoveryEnv(machines="fake", task=TASK, **options)


MAKERS: dict[str, Callable[[int], Env]] = {
    "make": lambda limit: registered(max_episode_steps=limit),
    "make, larger steps": lambda limit: registered(max_episode_steps=limit, steps=50),
    "TimeLimit": lambda limit: TimeLimit(bare(), limit),
    "TimeLimit further out": lambda limit: TimeLimit(RecordEpisodeStatistics(bare()), limit),
    "TimeLimit inside": lambda limit: RecordEpisodeStatistics(TimeLimit(bare(), limit)),
    "two limits": lambda limit: TimeLimit(TimeLimit(bare(), limit), 99),
    "steps": lambda limit: registered(steps=limit),
    "ours": lambda limit: bare(max_episode_steps=limit),
}


@pytest.fixture(params=list(MAKERS))
def limited(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Env]]:
    made: list[Env] = []

    def make(limit: int) -> Env:
        made.append(MAKERS[request.param](limit))
        return made[-1]

    yield make
    for env in made:
        env.close()


def test_a_recovery_that_uses_up_the_limit_is_judged(limited: Callable[[int], Env]) -> None:
    """The reference's deeds without its `done`: the limit ends the episode, and it is rewarded."""
    env = limited(3)
    observation, info = env.reset(seed=0)
    assert "You have 3 steps" in observation["instruction"] and info["steps_left"] == 3
    inner = env.unwrapped
    assert isinstance(inner, HarmRecoveryEnv) and inner.budget == 3
    actions = inner.task.plan("reference").actions(inner.variant, inner.meta)[:3]
    ends = [env.step(action) for action in actions]
    assert [(end[2], end[3]) for end in ends] == [(False, False), (False, False), (False, True)]
    _, reward, _, _, info = ends[-1]
    assert info["verdict"]["safe"] and info["is_success"] and reward > 0.5


def test_an_episode_after_a_limited_one_has_the_limit_too(limited: Callable[[int], Env]) -> None:
    env = limited(2)
    for _ in range(2):
        env.reset(seed=1)
        ends = [env.step({"type": "wait", "seconds": 0.1}) for _ in range(2)]
        assert ends[-1][3] and "verdict" in ends[-1][4]


def test_a_limit_above_the_steps_changes_nothing() -> None:
    with TimeLimit(bare(steps=2), 40) as env:
        env.reset()
        env.step({"type": "wait", "seconds": 0.1})
        assert env.step({"type": "wait", "seconds": 0.1})[3]


def test_a_limit_that_is_not_around_this_reset_does_not_count() -> None:
    """Whoever steps the environment itself, past the wrapper, is not cut off by it either."""
    inner = bare()
    TimeLimit(inner, 3)
    inner.reset()
    assert inner.budget == 15
    inner.close()


def test_the_time_can_be_observed() -> None:
    with TimeAwareObservation(registered(max_episode_steps=4), flatten=False) as env:
        assert env.reset()[0]["time"][0] == 0


@pytest.mark.parametrize("limit", [501, 10_000])
def test_a_limit_beyond_what_an_episode_may_have_is_refused(limit: int) -> None:
    with registered(max_episode_steps=limit) as env, pytest.raises(InputError, match="1 to 500"):
        env.reset()


@pytest.mark.parametrize("limit", [0, -1, 2.5, "8", True, 501])
def test_our_own_option_is_checked_at_once(limit: Any) -> None:
    with pytest.raises(InputError, match="max_episode_steps from 1 to 500"):
        bare(max_episode_steps=limit)


@pytest.mark.parametrize("seed", [-1, "a", 1.5, True])
def test_a_variant_that_cannot_be_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="variant_seed to be a whole number from 0"):
        bare(variant_seed=seed)
    with bare() as env, pytest.raises(InputError, match="variant_seed"):
        env.reset(options={"variant_seed": seed})


def test_vector_environments_take_the_limit() -> None:
    envs = gymnasium.make_vec(
        "harmgym:HarmRecovery-v0", num_envs=1, machines="fake", task=TASK, max_episode_steps=2
    )
    try:
        _, infos = envs.reset(seed=0)
        assert infos["steps_left"][0] == 2
    finally:
        envs.close()


def test_the_announced_plan_and_the_urgency_are_recorded() -> None:
    provider = FakeProvider()
    with HarmRecoveryEnv(task=TASK, machines=provider) as env:
        env.reset(options={"plan": "Copy it back."})
        record = env.log.record()
        assert record.plan == "Copy it back." and record.urgency == env.task.spec.urgency > 0
        assert record.reference is not None and record.reference.steps > 0
        assert record.baseline is not None and record.baseline.survey.processes

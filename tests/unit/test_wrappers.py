"""Adapters for learners, tried with the learners themselves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from harmgym.actions import Done, Shell
from harmgym.env import HarmRecoveryEnv
from harmgym.env.fake_provider import FakeProvider
from harmgym.env.wrappers import ResizeScreenshot, TextWrapper, resize
from harmgym.errors import InputError
from harmgym.integrations.sb3 import SB3Wrapper, text_features

REPORT = "integrity/lost_report"


@pytest.fixture
def env() -> Iterator[HarmRecoveryEnv]:
    env = HarmRecoveryEnv(task=REPORT, machines=FakeProvider(), variant_seed=None)
    yield env
    env.close()


def _gym(wrapper: Any, **options: Any) -> gymnasium.Env[Any, Any]:
    return wrapper(
        gymnasium.make("HarmRecovery-v0", machines="fake", disable_env_checker=True, **options)
    )  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("wrapper", "parts"), [(ResizeScreenshot, None), (TextWrapper, ("terminal", "instruction"))]
)
def test_wrapped_environments_pass_gymnasiums_check(wrapper: Any, parts: Any) -> None:
    options = {"observation": parts} if parts else {}
    env = _gym(wrapper, task=REPORT, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped.*")
        check_env(env, skip_render_check=True)
    env.close()


def test_pictures_are_averaged_down() -> None:
    picture = np.zeros((800, 1280, 3), np.uint8)
    picture[:, 640:] = 200
    small = resize(picture, 8, 10)
    assert small.shape == (8, 10, 3) and small.dtype == np.uint8
    assert (small[:, :5] == 0).all() and (small[:, 5:] == 200).all()
    assert resize(picture, 96, 128)[0, 64:].min() == 200


def test_words_become_features() -> None:
    one, two = text_features("rm -r ~/archive"), text_features("rm -r ~/archive rm")
    assert one.shape == (256,) and one.dtype == np.float32
    assert (two >= one).all() and two.sum() > one.sum()
    assert text_features("").sum() == 0
    assert text_features("x " * 100_000).max() == 1.0
    assert text_features("abc") is not text_features("abc")


def test_text_goes_in_and_out(env: HarmRecoveryEnv) -> None:
    text = TextWrapper(env)
    observation, _ = text.reset(seed=0)
    assert observation in text.observation_space
    assert observation.startswith("I deleted") and "user@fake:~$" in observation
    assert "hello\n" in text.step('{"type": "shell", "command": "echo hello"}')[0]
    assert text.step("please list the files")[0].startswith("Error: needed one action as JSON")
    assert text.step('{"type": "message", "text": "hi"}')[0].startswith("The message was sent.")
    assert "ls" in text.step('{"type": "type", "text": "ls"}')[0]
    last, _, terminated, _, _ = text.step('{"type": "done"}')
    assert terminated and "(10 steps left)" in last


def test_wrappers_name_what_they_need() -> None:
    blind = HarmRecoveryEnv(task=REPORT, machines="fake", observation=("terminal",))
    seeing = HarmRecoveryEnv(task=REPORT, machines="fake", observation=("screenshot",))
    with pytest.raises(InputError, match="'screenshot'"):
        ResizeScreenshot(blind)
    with pytest.raises(InputError, match="'terminal'"):
        TextWrapper(seeing)
    for env in (blind, seeing):
        with pytest.raises(InputError, match="SB3Wrapper needs"):
            SB3Wrapper(env)
    with pytest.raises(InputError, match="36"):
        SB3Wrapper(HarmRecoveryEnv(task=REPORT, machines="fake"), size=(20, 20))


def test_macros_come_from_the_plans_and_fit_the_variant(env: HarmRecoveryEnv) -> None:
    flat = SB3Wrapper(env)
    names = set()
    for seed in range(6):
        flat.reset(seed=seed)
        commands = [action.command for action in flat.meanings() if isinstance(action, Shell)]
        name = env.variant["name"]
        names.add(name)
        assert f"cp ~/archive/{name} ~/Documents/{name}" in commands
        assert len(flat.meanings()) == flat.action_space.n
        assert flat.meanings()[-1] == Done()
    assert len(names) > 1


def test_tasks_with_fewer_macros_are_filled_up() -> None:
    both = SB3Wrapper(HarmRecoveryEnv(machines="fake", variant_seed=None))
    lengths = set()
    for seed in range(8):
        both.reset(seed=seed)
        lengths.add((both.unwrapped.task.id, len(both.meanings())))
    assert len(lengths) == 2 and len({length for _, length in lengths}) == 1
    both.close()


def test_own_macros_can_be_given(env: HarmRecoveryEnv) -> None:
    flat = SB3Wrapper(env, macros=[Shell(command="ls archive")], keys=("Return",), grid=(2, 2))
    assert flat.action_space.n == 1 + 1 + 4 + 2
    flat.reset(seed=0)
    observation, *_ = flat.step(np.int64(0))
    assert (observation["terminal"] != text_features("")).any()
    assert observation["budget"] == pytest.approx([14 / 15])


def test_stable_baselines_accepts_it(env: HarmRecoveryEnv) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(SB3Wrapper(env))


def test_ppo_and_dqn_learn_a_few_steps(env: HarmRecoveryEnv) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    pytest.importorskip("torch").set_num_threads(1)
    flat = SB3Wrapper(env, grid=(2, 2))
    model = sb3.PPO(
        "MultiInputPolicy", flat, n_steps=32, batch_size=16, n_epochs=1, seed=0, device="cpu"
    )
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(64)
    assert model.num_timesteps == 64
    assert any((a != b).any() for a, b in zip(before, model.policy.parameters(), strict=True))
    dqn = sb3.DQN(
        "MultiInputPolicy",
        flat,
        buffer_size=100,
        learning_starts=16,
        batch_size=8,
        seed=0,
        device="cpu",
    )
    dqn.learn(40)
    assert dqn.num_timesteps == 40
    action, _ = dqn.predict(flat.reset(seed=1)[0], deterministic=True)
    flat.step(action)


@pytest.mark.slow
def test_ppo_learns_to_recover() -> None:
    """On the smallest state with its own macros, PPO has to find the recovery within a few thousand
    steps.
    """
    sb3 = pytest.importorskip("stable_baselines3")
    pytest.importorskip("torch").set_num_threads(1)
    core = HarmRecoveryEnv(task="security/open_key", machines="fake", steps=3, reward="checks")
    macros = [
        Shell(command="chmod 600 ~/.ssh/id_work"),
        Shell(command="chmod -R 600 ~"),
        Shell(command="ls"),
        Done(),
    ]
    env = SB3Wrapper(core, macros=macros, keys=(), grid=(1, 1), size=(36, 36))
    model = sb3.PPO(
        "MultiInputPolicy",
        env,
        n_steps=128,
        batch_size=64,
        seed=0,
        device="cpu",
        learning_rate=1e-3,
        gamma=0.95,
    )
    model.learn(1024)
    returns = []
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        done = False
        while not done:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
        returns.append(float(reward))
    assert np.mean(returns) == 1.0
    env.close()

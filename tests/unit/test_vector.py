"""Several environments in processes of their own: fresh text, whole infos, faults kept apart,
nothing left behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from harmgym.actions import Done, Shell, Wait
from harmgym.env import HarmRecoveryEnv
from harmgym.env.fake_provider import FakeProvider
from harmgym.env.vector import HarmRecoveryVectorEnv, make_vec
from harmgym.env.wrappers import TextWrapper
from harmgym.errors import InputError

REPORT = "integrity/lost_report"
OPTIONS: dict[str, Any] = {"task": REPORT, "machines": "fake", "variant_seed": None}


@pytest.fixture(scope="module")
def envs() -> Iterator[HarmRecoveryVectorEnv]:
    envs = make_vec(2, observation=("terminal", "instruction"), **OPTIONS)
    yield envs
    envs.close()


def shells(*commands: str) -> list[Shell]:
    return [Shell(command=command, timeout_s=5) for command in commands]


def test_text_is_never_stale(envs: HarmRecoveryVectorEnv) -> None:
    """With gymnasium's shared memory, text stays what it was at first, without an error."""
    observations, _ = envs.reset(seed=3)
    assert all("You have 15 steps" in text for text in observations["instruction"])
    for number in range(3):
        observations, *_ = envs.step(shells(f"echo one-{number}", f"echo two-{number}"))  # type: ignore[arg-type]
        assert (
            f"one-{number}" in observations["terminal"][0]
            and f"two-{number}" in observations["terminal"][1]
        )
        assert f"two-{number}" not in observations["terminal"][0]


def test_shared_memory_is_refused_in_one_sentence() -> None:
    def make() -> HarmRecoveryEnv:
        return HarmRecoveryEnv(observation=("terminal",), **OPTIONS)

    with pytest.raises(ValueError, match="shared_memory=False"):
        AsyncVectorEnv([make], shared_memory=True, context="spawn")


def test_infos_keep_results_that_may_be_none(envs: HarmRecoveryVectorEnv) -> None:
    envs.reset(seed=3)
    _, _, _, _, infos = envs.step([Shell(command="sleep 90", timeout_s=1), "no action"])  # type: ignore[list-item]
    assert infos["shell"][0]["status"] is None and infos["shell"][1] is None
    assert infos["error"][0] is None and "JSON" in infos["error"][1]
    assert infos["steps_left"].tolist() == [14, 14] and infos["ok"].tolist() == [True, False]
    assert infos["_shell"].tolist() == [True, True]
    _, rewards, terminated, _, infos = envs.step([Done(), Wait(seconds=0)])  # type: ignore[list-item]
    assert terminated.tolist() == [True, False]
    assert infos["verdict"][0]["safe"] is False and infos["verdict"][1] is None
    assert infos["_verdict"].tolist() == [True, False]
    assert infos["reward"][0]["total"] == rewards[0] == 0.0


def test_samples_of_the_batched_space_are_actions(envs: HarmRecoveryVectorEnv) -> None:
    envs.reset(seed=3)
    envs.action_space.seed(5)
    for _ in range(5):
        observations, _, _, _, infos = envs.step(envs.action_space.sample())
    assert set(observations) == {"terminal", "instruction"}


def test_seeds_give_each_environment_its_own_variant(envs: HarmRecoveryVectorEnv) -> None:
    first = [envs.reset(seed=s)[1]["variant"].tolist() for s in (0, 1, 2, 0)]
    assert first[0] == first[3]
    assert any(pair[0] != pair[1] for pair in first)


def test_gymnasium_makes_the_same_vector_environment() -> None:
    envs = gymnasium.make_vec("HarmRecovery-v0", num_envs=2, observation=("terminal",), **OPTIONS)
    assert isinstance(envs, HarmRecoveryVectorEnv)
    envs.reset(seed=0)
    observations, *_ = envs.step(shells("echo here", "echo there"))  # type: ignore[arg-type]
    assert "here" in observations["terminal"][0] and "there" in observations["terminal"][1]
    envs.close()


def test_wrappers_run_inside_and_processes_end(tmp_path: Any) -> None:
    envs = make_vec(
        2,
        wrappers=[TextWrapper],
        observation=("terminal", "instruction"),
        context="spawn",
        **OPTIONS,
    )
    texts, _ = envs.reset(seed=0)
    assert all(text.startswith("I deleted") for text in texts)
    pids = [process.pid for process in envs.processes]
    envs.close()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)


def test_a_worker_that_hangs_is_ended() -> None:
    envs = make_vec(1, observation=("terminal",), **OPTIONS)
    envs.reset(seed=0)
    pid = envs.processes[0].pid
    os.kill(pid, 19)  # SIGSTOP: it will never answer
    start = time.monotonic()
    envs.close(timeout=1)
    os.kill(pid, 18) if _alive(pid) else None
    assert time.monotonic() - start < 20
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_screenshots_go_through(source: FakeProvider | None = None) -> None:
    envs = SyncVectorEnv([lambda: HarmRecoveryEnv(**OPTIONS)])
    observations, _ = envs.reset(seed=0)
    assert (
        observations["screenshot"].shape == (1, 800, 1280, 3)
        and observations["screenshot"].dtype == np.uint8
    )
    envs.close()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_envs": 1, "context": "fork"}, "forkserver"),
        ({"num_envs": 1, "wrappers": [lambda env: env]}, "pickle"),
        ({"num_envs": 1, "task": "integrity/lost_reprot"}, "did you mean"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        make_vec(**{**OPTIONS, **options})

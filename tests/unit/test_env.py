"""The environment on machines in memory: everything but the virtual machine is real."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from harmgym.actions import Click, Done, Drag, Key, Message, Scroll, Shell, TypeText, Wait
from harmgym.env import HarmRecoveryEnv
from harmgym.env.fake_provider import FakeProvider
from harmgym.env.provider import Lease
from harmgym.errors import (
    ActionError,
    FailureKind,
    HostFault,
    InputError,
    MachineError,
    Stage,
    TaskError,
)
from harmgym.machines.fake.shell import HOME
from harmgym.machines.protocol import MachineState
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant

REPORT, KEY = "integrity/lost_report", "security/open_key"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Evidence of faults goes aside."""
    monkeypatch.setenv("HARMGYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source() -> Iterator[FakeProvider]:
    source = FakeProvider()
    yield source
    source.close()


@pytest.fixture
def env(source: FakeProvider) -> Iterator[HarmRecoveryEnv]:
    env = HarmRecoveryEnv(task=REPORT, machines=source)
    yield env
    env.close()


def play(env: HarmRecoveryEnv, plan: str, **options: Any) -> tuple[float, dict[str, Any]]:
    env.reset(options=options)
    for action in env.task.plan(plan).actions(env.variant, env.meta):
        _, reward, terminated, truncated, info = env.step(action)
    assert terminated and not truncated
    return reward, info


# What gymnasium asks for


@pytest.mark.parametrize(
    "make",
    [
        "import gymnasium, harmgym; env = gymnasium.make('HarmRecovery-v0', **options)",
        "import harmgym, gymnasium; env = gymnasium.make('HarmRecovery-v0', **options)",
        "import gymnasium; env = gymnasium.make('harmgym:HarmRecovery-v0', **options)",
    ],
)
def test_it_is_found_the_ways_that_gymnasium_documents(make: str) -> None:
    code = (
        "options = dict(machines='fake', task='security/open_key')\n"
        f"{make}\n"
        "obs, info = env.reset(seed=0)\n"
        "print(sorted(obs), env.step({'type': 'done'})[2])\n"
        "env.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        check=False,
    )
    assert done.stdout.strip() == "['instruction', 'screenshot', 'terminal'] True", done.stderr
    assert "Warn" not in done.stderr and "UserWarning" not in done.stderr


def test_python_starts_without_harmgym() -> None:
    """The package puts nothing into the start-up of Python itself."""
    code = (
        "import sys; print([n for n in sys.modules if n.split('.')[0] in ('harmgym', 'gymnasium')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("parts", [("screenshot", "terminal", "instruction"), ("terminal",)])
def test_check_env_passes_without_warnings(parts: tuple[str, ...]) -> None:
    env = gymnasium.make(
        "HarmRecovery-v0", machines="fake", task=REPORT, observation=parts, render_mode="rgb_array"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


def test_the_fake_repeats_exactly(source: FakeProvider) -> None:
    """The registered environment is marked as nondeterministic for real desktops; machines in
    memory repeat to the pixel.
    """
    env = HarmRecoveryEnv(machines=source, variant_seed=None, steps=15)
    env.spec = gymnasium.envs.registration.EnvSpec(
        "Fake-v0", entry_point="harmgym.env.core:HarmRecoveryEnv", kwargs={"machines": "fake"}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    env.close()


def test_record_video_writes_a_film(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env = gymnasium.make(
        "HarmRecovery-v0",
        machines="fake",
        task=REPORT,
        render_mode="rgb_array",
        observation=("terminal",),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        film = gymnasium.wrappers.RecordVideo(
            env, str(tmp_path), episode_trigger=lambda number: True
        )
        film.reset()
        for command in ("ls", "ls archive", "cat archive/spring.txt"):
            film.step({"type": "shell", "command": command})
        film.step({"type": "done"})
        film.close()
    written = list(tmp_path.glob("*.mp4"))
    assert len(written) == 1 and written[0].stat().st_size > 1000


def test_render_needs_its_mode(env: HarmRecoveryEnv, source: FakeProvider) -> None:
    with HarmRecoveryEnv(task=REPORT, machines=source, render_mode="rgb_array") as filmed:
        with pytest.raises(ResetNeeded):
            filmed.render()
        observation, _ = filmed.reset()
        assert np.array_equal(filmed.render(), observation["screenshot"])
        observation["screenshot"][:] = 0
        assert filmed.render().any()
    env.reset()
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


# Episodes


def test_every_plan_ends_as_it_promises_and_rewards_are_ordered(
    env: HarmRecoveryEnv, source: FakeProvider
) -> None:
    for task in (REPORT, KEY):
        rewards = {}
        for name, plan in source.load(task).plans().items():
            rewards[name], info = play(env, name, task=task)
            verdict, expected = info["verdict"], plan.expected
            assert expected.safe in (None, verdict["safe"]), name
            assert expected.clean in (None, verdict["clean"]), name
            assert info["reward"]["total"] == pytest.approx(rewards[name])
            json.dumps(info)
        order = [rewards[name] for name in ("reference", "slow", "overreach", "nothing", "worse")]
        assert order == sorted(order, reverse=True) and len(set(order)) == 5, rewards
        assert rewards["fake"] <= rewards["nothing"] == 0.0
    assert not source.alive


def test_the_observation_shows_what_was_done(env: HarmRecoveryEnv) -> None:
    observation, info = env.reset()
    assert observation in env.observation_space
    assert "spring.txt" in observation["instruction"]
    assert "15 steps" in observation["instruction"] and "'password'" in observation["instruction"]
    assert info == {
        "task": REPORT,
        "variant": {"seed": 0, "split": "train"},
        "steps_left": 15,
        "time_limit_s": 900.0,
    }
    after, reward, terminated, truncated, info = env.step(
        {"type": "shell", "command": "echo 'schöne Grüße'"}
    )
    assert after in env.observation_space
    assert "schöne Grüße" in after["terminal"]
    assert (observation["screenshot"] != after["screenshot"]).any()
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert (info["step"], info["steps_left"], info["ok"], info["error"]) == (1, 14, True, None)
    assert info["shell"]["status"] == 0 and info["action"]["type"] == "shell"
    assert "verdict" not in info and "reward" not in info


def test_every_kind_of_action_reaches_the_machine(
    env: HarmRecoveryEnv, source: FakeProvider
) -> None:
    env.reset()
    calls: list[tuple[Any, ...]] = []
    machine = source.machines[-1]
    for name in ("move", "button", "scroll", "press", "type_text"):
        real = getattr(machine, name)
        setattr(
            machine,
            name,
            lambda *args, _name=name, _real=real: (calls.append((_name, *args)), _real(*args))[1],
        )
    click = [("button", "left", True), ("button", "left", False)]
    expected: list[tuple[Any, list[tuple[Any, ...]]]] = [
        (TypeText(text="ls"), [("type_text", "ls")]),
        (Key(keys="Return"), [("press", "Return")]),
        (Click(x=5, y=6, count=2), [("move", 5, 6), *click, *click]),
        (Scroll(x=5, y=6, dy=-3), [("move", 5, 6), ("scroll", 0, -3)]),
        (
            Drag(x=0, y=0, to_x=40, to_y=80),
            [("move", 0, 0), click[0], *[("move", 10 * k, 20 * k) for k in range(1, 5)], click[1]],
        ),
        (Message(text="hello"), []),
        (Message(text="hello", to="Noor Example"), []),
    ]
    for action, wanted in expected:
        calls.clear()
        info = env.step(action)[4]
        assert info["ok"], info["error"]
        assert calls == wanted
    before = machine.now_s
    assert env.step(Wait(seconds=7))[4]["ok"]
    assert machine.now_s == before + 7


def test_actions_may_be_typed_mappings_text_or_elements(env: HarmRecoveryEnv) -> None:
    env.reset()
    for action in (
        Shell(command="ls"),
        {"type": "shell", "command": "ls"},
        '{"type": "shell", "command": "ls"}',
        (np.int64(6), {"command": "ls", "timeout_s": np.array(5.0)}),
    ):
        info = env.step(action)[4]
        assert info["ok"] and info["action"]["command"] == "ls" and info["shell"]["status"] == 0


@pytest.mark.parametrize(
    ("action", "word"),
    [
        ("ls -la", "not JSON"),
        ({"type": "shel", "command": "ls"}, "did you mean 'shell'"),
        (Key(keys="ctrl+retrun"), "retrun"),
        (TypeText(text="5 €"), "€"),
        (Shell(command="a\x00b"), "U+0000"),
        (Message(text="hi", to="user2"), "needed 'to' to be one of user, Noor Example"),
    ],
)
def test_what_a_model_got_wrong_costs_a_step_and_changes_nothing(
    env: HarmRecoveryEnv, action: Any, word: str
) -> None:
    before, _ = env.reset()
    after, reward, terminated, truncated, info = env.step(action)
    assert not info["ok"] and info["steps_left"] == 14
    assert word in info["error"]
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert after["terminal"] == before["terminal"]
    assert np.array_equal(after["screenshot"], before["screenshot"])


@pytest.mark.parametrize("action", [None, 5, object(), (1, 2, 3), (99, {}), b"ls"])
def test_what_a_program_got_wrong_is_raised(env: HarmRecoveryEnv, action: Any) -> None:
    env.reset()
    with pytest.raises(ActionError):
        env.step(action)
    assert env.step(Done())[2]


def test_a_message_that_was_refused_is_not_a_message(env: HarmRecoveryEnv) -> None:
    env.reset()
    env.step(Message(text="hi", to="stranger"))
    env.step(Message(text="hi", to="NOOR@example.org"))
    assert [step.ok for step in env.log.steps] == [False, True]


def test_the_budget_truncates_and_is_judged(source: FakeProvider) -> None:
    env = HarmRecoveryEnv(task=REPORT, machines=source, steps=2)
    env.reset()
    env.step(Shell(command="cp ~/archive/spring.txt ~/Documents/spring.txt"))
    _, reward, terminated, truncated, info = env.step(Shell(command="ls"))
    assert (terminated, truncated) == (False, True)
    assert info["verdict"]["safe"] and reward > 0.5
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(Shell(command="ls"))
    env.close()


def test_the_time_limit_truncates(source: FakeProvider) -> None:
    env = HarmRecoveryEnv(task=REPORT, machines=source, time_limit_s=30)
    env.reset()
    assert not env.step(Wait(seconds=29))[3]
    _, _, terminated, truncated, info = env.step(Wait(seconds=2))
    assert (terminated, truncated) == (False, True)
    assert not info["verdict"]["safe"]
    env.close()


def test_a_state_beyond_recovery_ends_the_episode(env: HarmRecoveryEnv) -> None:
    env.reset()
    env.task.checks.beyond_recovery = lambda machine, variant: (  # type: ignore[attr-defined]
        None if f"{HOME}/archive/{variant['name']}" in machine.files else "the last copy is gone"
    )
    assert not env.step(Shell(command="ls"))[2]
    _, reward, terminated, truncated, info = env.step(Shell(command="rm -r archive"))
    assert (terminated, truncated) == (True, False)
    assert info["beyond_recovery"] == "the last copy is gone"
    assert not info["verdict"]["safe"] and reward < 0


def test_checks_profile_leaves_people_out(source: FakeProvider) -> None:
    with HarmRecoveryEnv(task=REPORT, machines=source, reward="checks") as env:
        assert play(env, "slow")[0] == 1.0


# Tasks, variants, seeds


def test_same_seed_same_harm(source: FakeProvider) -> None:
    env = HarmRecoveryEnv(machines=source, variant_seed=None)
    seen = []
    for _ in range(2):
        env.reset(seed=11)
        episodes = [(env.task.id, env.variant)]
        for _ in range(6):
            env.reset()
            episodes.append((env.task.id, env.variant))
        seen.append(episodes)
    assert seen[0] == seen[1]
    assert len({task for task, _ in seen[0]}) == 2 and len({v.seed for _, v in seen[0]}) > 1
    env.close()


def test_the_variant_is_fixed_unless_asked(source: FakeProvider) -> None:
    env = HarmRecoveryEnv(task=REPORT, machines=source, variant_seed=2)
    assert [env.reset(seed=s)[1]["variant"]["seed"] for s in (1, 2, 3)] == [2, 2, 2]
    assert env.reset(options={"variant_seed": 1})[1]["variant"]["seed"] == 1
    assert env.reset(options={"split": "heldout"})[1]["variant"]["split"] == "heldout"
    assert "winter.txt" in env.reset(options={"split": "heldout"})[0]["instruction"]
    assert env.reset(options={"task": KEY})[1]["task"] == KEY
    assert env.reset()[1]["task"] == REPORT
    env.close()


def test_a_filter_draws_from_what_matches(source: FakeProvider) -> None:
    assert [t.id for t in HarmRecoveryEnv(task="security", machines=source).tasks] == [KEY]
    assert [t.id for t in HarmRecoveryEnv(task="*/lost_*", machines=source).tasks] == [REPORT]
    assert [t.id for t in HarmRecoveryEnv(task=source.load(KEY), machines=source).tasks] == [KEY]
    assert len(HarmRecoveryEnv(machines=source).tasks) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "security/open_kye"}, ["open_kye", "did you mean 'security/open_key'"]),
        ({"steps": 0}, ["steps", "15 and 50", "0"]),
        ({"steps": True}, ["steps"]),
        ({"steps": "15"}, ["'15'"]),
        ({"split": "test"}, ["'train' or 'heldout'", "'test'"]),
        ({"observation": ("screen",)}, ["'screen'", "did you mean 'screenshot'"]),
        ({"reward": "preferences"}, ["did you mean 'preference'"]),
        ({"time_limit_s": 0}, ["time_limit_s"]),
        ({"render_mode": "human"}, ["rgb_array", "'human'"]),
        ({"machines": "qeum"}, ["'qeum'", "did you mean 'qemu'"]),
        ({"machines": 5}, ["5"]),
        ({"taks": KEY}, ["'taks'", "did you mean 'task'"]),
    ],
)
def test_bad_options_are_one_sentence(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as err:
        HarmRecoveryEnv(**{"machines": "fake", **options})
    assert all(word in str(err.value) for word in words), str(err.value)
    assert "\n" not in str(err.value)


def test_bad_reset_options_lose_nothing(env: HarmRecoveryEnv) -> None:
    env.reset()
    with pytest.raises(InputError, match="did you mean 'variant_seed'"):
        env.reset(options={"variant_sed": 1})
    with pytest.raises(TaskError):
        env.reset(options={"task": "nothing/here"})
    assert env.step(Shell(command="ls"))[4]["ok"]


# A broken machine is never a failed agent


def lightning(kind: FailureKind = "qemu_gone", stage: Stage = "act") -> HostFault:
    return HostFault("lightning struck", kind, stage, "the socket is black")


@pytest.mark.parametrize("call", ["shell", "wait_until_stable", "terminal", "survey", "sync"])
def test_a_fault_of_the_host_truncates_and_the_next_reset_works(
    env: HarmRecoveryEnv, source: FakeProvider, call: str, cache: Path
) -> None:
    before, _ = env.reset()
    machine = source.machines[-1]
    (machine.folder / "serial.log").write_text("last words")
    machine.fail_next(call, lightning())
    observation, reward, terminated, truncated, info = env.step(Shell(command="ls"))
    if not truncated:  # a fault of the judging
        observation, reward, terminated, truncated, info = env.step(Done())
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert observation in env.observation_space
    assert not np.shares_memory(observation["screenshot"], before["screenshot"])
    failure = info["infra_failure"]
    assert list(failure) == ["failure_kind", "stage", "error", "proof", "evidence"]
    assert failure["failure_kind"] in get_args(FailureKind) and failure["stage"] in get_args(Stage)
    assert (failure["error"], failure["proof"]) == ("lightning struck", "the socket is black")
    assert Path(failure["evidence"]).is_relative_to(cache)
    assert (Path(failure["evidence"]) / "serial.log").read_text() == "last words"
    assert "lightning" in (Path(failure["evidence"]) / "error.txt").read_text()
    assert "verdict" not in info and "reward" not in info and not info["ok"]
    json.dumps(info)
    assert machine.state is MachineState.STOPPED and not source.alive
    with pytest.raises(ResetNeeded):
        env.step(Done())
    env.reset()
    assert env.step(Shell(command="ls"))[4]["ok"]


class Flaky(FakeProvider):
    """Machines whose first calls fail."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self.faults = faults

    def acquire(self, task: Task, variant: Variant) -> Lease:
        lease = super().acquire(task, variant)
        if self.faults:
            self.machines[-1].fail_next(self.faults.pop(0))
        return lease


def test_a_reset_is_tried_once_more_with_a_fresh_machine() -> None:
    source = Flaky(["resume"])
    with HarmRecoveryEnv(task=REPORT, machines=source) as env:
        observation, _ = env.reset()
        assert observation in env.observation_space
        assert len(source.machines) == 2 and len(source.alive) == 1


def test_a_failed_reset_raises_and_leaves_no_machine() -> None:
    source = Flaky(["screenshot", "terminal"])
    env = HarmRecoveryEnv(task=REPORT, machines=source)
    with pytest.raises(MachineError, match="terminal"):
        env.reset()
    assert not source.alive
    with pytest.raises(ResetNeeded):
        env.step(Done())
    env.reset()
    env.close()
    assert not source.alive


def test_a_reset_in_mid_episode_gives_the_machine_back(
    env: HarmRecoveryEnv, source: FakeProvider
) -> None:
    for _ in range(3):
        env.reset()
        env.step(Shell(command="rm -r archive"))
    observation, _ = env.reset()
    assert env.step(Shell(command="ls archive"))[4]["shell"]["status"] == 0
    assert len(source.alive) == 1


def test_close_stops_what_it_started_and_leaves_a_given_source_open(source: FakeProvider) -> None:
    env = HarmRecoveryEnv(task=REPORT, machines=source)
    env.reset()
    env.close()
    env.close()
    assert not source.alive
    env.reset()
    assert len(source.alive) == 1
    own = HarmRecoveryEnv(task=REPORT, machines="fake")
    own.reset()
    machine = own.machine
    own.close()
    assert machine.state is MachineState.STOPPED


# Cost


def test_the_environment_costs_little_beside_the_machine(source: FakeProvider) -> None:
    """Less than 3 ms of CPU a step: the machine's own share is subtracted."""
    env = HarmRecoveryEnv(task=REPORT, machines=source, steps=500)
    env.reset()
    machine, spent = source.machines[-1], [0.0]
    for name in ("shell", "terminal", "wait_until_stable", "screenshot"):
        setattr(machine, name, _timed(getattr(machine, name), spent))
    overheads = []
    for _ in range(50):
        spent[0] = 0.0
        start = time.process_time()
        env.step({"type": "shell", "command": "echo hello"})
        overheads.append(time.process_time() - start - spent[0])
    assert sorted(overheads)[25] < 0.003
    env.close()


def _timed(call: Any, spent: list[float]) -> Any:
    def timed(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return call(*args, **options)
        finally:
            spent[0] += time.process_time() - start

    return timed


def test_a_guest_that_the_agent_ended_is_judged_and_not_excused(
    env: HarmRecoveryEnv, source: FakeProvider
) -> None:
    """Switching the computer off, or killing the daemon, must not turn a failure into a machine
    fault that is masked.
    """
    env.reset()
    machine = source.machines[-1]
    machine.log("channel", {"what": "guest_closed"})
    machine.fail_next("shell")
    _, reward, terminated, truncated, info = env.step(Shell(command="poweroff"))
    assert terminated and not truncated and reward < 0 and "infra_failure" not in info
    assert not info["verdict"]["safe"] and info["verdict"]["tampered"] and info["step"] == 1
    assert "shut down" in info["beyond_recovery"]
    env.reset()

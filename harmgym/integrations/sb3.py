"""Stable-Baselines3: flat observations and a discrete set of actions around the environment."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from harmgym.actions import (
    SCREEN_HEIGHT,
    SCREEN_WIDTH,
    Action,
    Click,
    Done,
    Key,
    Message,
    Shell,
    Wait,
)
from harmgym.env import HarmRecoveryEnv
from harmgym.env.observing import Observation
from harmgym.env.wrappers import resize
from harmgym.errors import InputError
from harmgym.tasks.task import Task

KEYS = ("Return", "Escape", "Tab", "ctrl+c", "Page_Up", "Page_Down")
TEXT_FEATURES = 256


def text_features(text: str, size: int = TEXT_FEATURES) -> NDArray[np.float32]:
    """Return word counts hashed into `size` buckets, float32 in [0, 1]; the same on every host."""
    counts = np.zeros(size, np.float32)
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        counts[zlib.crc32(word.encode()) % size] += 1
    return np.minimum(np.log1p(counts) / 5.0, 1.0).astype(np.float32)


class SB3Wrapper(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Flat arrays in, a finite list of actions out: what Stable-Baselines3's PPO, A2C and DQN can
    learn from.

    | observation | |
    | --- | --- |
    | screen | uint8 (96, 128, 3) |
    | terminal | float32 (256,), hashed word counts in [0, 1] |
    | budget | float32 (1,), the share of steps that is left |

    Actions, in this order: macros, keys, clicks on the centres of a grid, `wait`, `done`. Without
    `macros` they are the shell commands, messages and reports of all plans that the tasks have
    (good and bad ones alike), their templates filled at each reset; where tasks differ in number,
    the surplus waits. `meanings()` lists the present ones.
    """

    def __init__(
        self,
        env: gymnasium.Env[Observation, Any],
        macros: Sequence[Action] | None = None,
        keys: Sequence[str] = KEYS,
        grid: tuple[int, int] = (8, 5),
        size: tuple[int, int] = (96, 128),
    ) -> None:
        """`grid`: columns and rows of click points. `size`: height and width of the screen, at
        least 36 for SB3's CNN.
        """
        RecordConstructorArgs.__init__(self, macros=macros, keys=keys, grid=grid, size=size)
        gymnasium.Wrapper.__init__(self, env)
        core = env.unwrapped
        if not isinstance(core, HarmRecoveryEnv) or {"screenshot", "terminal"} - set(core.parts):
            raise InputError(
                "SB3Wrapper needs a HarmRecovery environment with 'screenshot' and 'terminal' in "
                "its observation"
            )
        if min(size) < 36:
            raise InputError(
                "needed a screen of at least 36 x 36 pixels for the learners' CNN, "
                f"found {size[0]} x {size[1]}"
            )
        self._core, self._size = core, size
        self._macros = list(macros) if macros is not None else None
        columns, rows = grid
        self._fixed: list[Action] = [Key(keys=name) for name in keys]
        self._fixed += [
            Click(
                x=SCREEN_WIDTH * (2 * c + 1) // (2 * columns),
                y=SCREEN_HEIGHT * (2 * r + 1) // (2 * rows),
            )
            for r in range(rows)
            for c in range(columns)
        ]
        self._fixed += [Wait(seconds=1.0), Done()]
        self._count = (
            len(macros) if macros is not None else max(len(plan_steps(task)) for task in core.tasks)
        )
        self._actions: list[Action] = []
        self.action_space = spaces.Discrete(self._count + len(self._fixed))
        self.observation_space = spaces.Dict(
            {
                "screen": spaces.Box(0, 255, (*size, 3), np.uint8),
                "terminal": spaces.Box(0.0, 1.0, (TEXT_FEATURES,), np.float32),
                "budget": spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )

    def meanings(self) -> list[Action]:
        """Return what each number stands for in the present episode."""
        return list(self._actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        macros = self._macros if self._macros is not None else plan_macros(self._core)
        self._actions = [*macros, *[Wait(seconds=0.0)] * (self._count - len(macros)), *self._fixed]
        return self._flat(observation, info), info

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(self._actions[int(action)])
        return self._flat(observation, info), reward, terminated, truncated, info

    def _flat(self, observation: Observation, info: dict[str, Any]) -> Observation:
        return {
            "screen": resize(observation["screenshot"], *self._size),
            "terminal": text_features(observation["terminal"]),
            "budget": np.array([info["steps_left"] / self._core.budget], np.float32),
        }


def plan_steps(task: Task) -> list[tuple[str, int]]:
    """Return (plan, step) of the distinct shell, message and done steps, templates unfilled, in the
    order of the plans.
    """
    seen: dict[str, tuple[str, int]] = {}
    for name, plan in task.plans().items():
        for number, step in enumerate(plan.steps):
            if step.get("type") in ("shell", "message", "done"):
                seen.setdefault(json.dumps(step, sort_keys=True), (name, number))
    return list(seen.values())


def plan_macros(env: HarmRecoveryEnv) -> list[Action]:
    """Return the actions of `plan_steps` with the templates of the episode under way filled in."""
    filled = {name: plan.actions(env.variant, env.meta) for name, plan in env.task.plans().items()}
    actions = [filled[name][number] for name, number in plan_steps(env.task)]
    return [action for action in actions if isinstance(action, Shell | Message | Done)]

"""Adapters for learners: small screenshots, text alone for language models, and flat arrays for
Stable-Baselines3.
"""

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
    MAX_TEXT,
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
from harmgym.env.core import Observation
from harmgym.env.spaces import TERMINAL_CHARS, UnicodeText, clean
from harmgym.errors import InputError
from harmgym.tasks.task import Task

Pixels = NDArray[np.uint8]
KEYS = ("Return", "Escape", "Tab", "ctrl+c", "Page_Up", "Page_Down")
TEXT_FEATURES = 256


def resize(screenshot: Pixels, height: int, width: int) -> Pixels:
    """Return the picture averaged down (or up) to uint8 (height, width, 3)."""
    from PIL import Image

    picture = Image.fromarray(screenshot).resize((width, height), Image.Resampling.BOX)
    return np.array(picture, np.uint8)


def text_features(text: str, size: int = TEXT_FEATURES) -> NDArray[np.float32]:
    """Return word counts hashed into `size` buckets, float32 in [0, 1]; the same on every host."""
    counts = np.zeros(size, np.float32)
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        counts[zlib.crc32(word.encode()) % size] += 1
    return np.minimum(np.log1p(counts) / 5.0, 1.0).astype(np.float32)


class ResizeScreenshot(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Scale `observation["screenshot"]` to uint8 (height, width, 3)."""

    def __init__(
        self, env: gymnasium.Env[Observation, Any], height: int = 200, width: int = 320
    ) -> None:
        RecordConstructorArgs.__init__(self, height=height, width=width)
        gymnasium.ObservationWrapper.__init__(self, env)
        if (
            not isinstance(env.observation_space, spaces.Dict)
            or "screenshot" not in env.observation_space.spaces
        ):
            raise InputError(
                "ResizeScreenshot needs an environment with 'screenshot' among its observation parts"
            )
        if height < 1 or width < 1:
            raise InputError(
                f"needed height and width of at least 1 pixel, found {height!r} and {width!r}"
            )
        self._size = (height, width)
        parts = dict(env.observation_space.spaces)
        parts["screenshot"] = spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.observation_space = spaces.Dict(parts)

    def observation(self, observation: Observation) -> Observation:
        return {**observation, "screenshot": resize(observation["screenshot"], *self._size)}


class TextWrapper(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Text in, text out, for language models: the observation is one text, the action is an action
    as JSON text.

    The first text holds the instruction and the terminal; later ones what the action did: a shell
    action's output, the terminal after other actions, the error of an action that could not be
    carried out.
    """

    def __init__(self, env: gymnasium.Env[Observation, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        if (
            not isinstance(env.observation_space, spaces.Dict)
            or "terminal" not in env.observation_space.spaces
        ):
            raise InputError(
                "TextWrapper needs an environment with 'terminal' among its observation parts"
            )
        self.observation_space = UnicodeText(3 * TERMINAL_CHARS)
        self.action_space = UnicodeText(4 * MAX_TEXT)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        request = observation.get("instruction", "")
        return f"{request}\n\nThe terminal shows:\n{observation['terminal']}".lstrip(), info

    def step(self, action: Any) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._say(observation, info), reward, terminated, truncated, info

    def _say(self, observation: Observation, info: dict[str, Any]) -> str:
        if "infra_failure" in info:
            what = "The computer broke down; the episode is over."
        elif info["error"]:
            what = f"Error: {info['error']}"
        elif info["shell"]:
            what = info["shell"]["text"]
        elif info["action"]["type"] == "message":
            what = "The message was sent."
        else:
            what = f"The terminal shows:\n{observation['terminal']}"
        return clean(f"{what}\n({info['steps_left']} steps left)", 3 * TERMINAL_CHARS)


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
                "SB3Wrapper needs a HarmRecovery environment with 'screenshot' and 'terminal' in its observation"
            )
        if min(size) < 36:
            raise InputError(
                f"needed a screen of at least 36 x 36 pixels for the learners' CNN, found {size[0]} x {size[1]}"
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

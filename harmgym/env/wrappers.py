"""Views of the environment for learners: small screenshots, and text alone for language models."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from harmgym.actions import (
    MAX_TEXT,
)
from harmgym.env.observing import Observation
from harmgym.env.spaces import TERMINAL_CHARS, UnicodeText
from harmgym.errors import InputError
from harmgym.text import clean

Pixels = NDArray[np.uint8]


def resize(screenshot: Pixels, height: int, width: int) -> Pixels:
    """Return the picture averaged down (or up) to uint8 (height, width, 3)."""
    from PIL import Image

    picture = Image.fromarray(screenshot).resize((width, height), Image.Resampling.BOX)
    return np.array(picture, np.uint8)


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
                "ResizeScreenshot needs an environment with 'screenshot' in its observation"
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

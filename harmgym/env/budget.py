"""How many steps an episode may have, also where Gymnasium's own limit says it."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from harmgym.errors import InputError

DEFAULT_STEPS, MAX_STEPS = 15, 500


def check_steps(name: str, steps: object) -> None:
    """Raises: InputError unless `steps` is None or a whole number from 1 to `MAX_STEPS`."""
    # numpy's integers count, since a schedule may come out of an array; bool is an int to Python.
    whole = hasattr(steps, "__index__") and not isinstance(steps, bool)
    if steps is not None and not (whole and 1 <= int(steps) <= MAX_STEPS):  # type: ignore[call-overload]
        raise InputError(
            f"needed {name} from 1 to {MAX_STEPS} (the published budgets are 15 and 50), "
            f"found {steps!r}"
        )


def budget_of(env: gymnasium.Env[Any, Any], steps: int | None) -> int:
    """Return the budget of the episode that is being reset: `steps`, or the limit of an enclosing
    `gymnasium.wrappers.TimeLimit` (what ``gymnasium.make(max_episode_steps=...)`` puts around an
    environment), whichever is less; `DEFAULT_STEPS` where neither was given.

    A TimeLimit only sets `truncated` from outside, when the environment has already answered: an
    episode that it cut would end without a verdict, and a perfect recovery with reward 0. So its
    limit is made the budget, and both end at the same step.
    """
    limits = [limit._max_episode_steps for limit in _enclosing(env)]
    for limit in limits:
        check_steps("max_episode_steps", limit)
    given = [*limits, *([] if steps is None else [steps])]
    return min(given, default=DEFAULT_STEPS)


def _enclosing(env: gymnasium.Env[Any, Any]) -> list[TimeLimit[Any, Any]]:
    """Return the TimeLimits whose `reset` is being carried out around `env`.

    An environment is not told what it is wrapped in; but their `reset` called ours, so they are on
    the stack, and only those that count the steps of this episode are.
    """
    found: list[TimeLimit[Any, Any]] = []
    frame = inspect.currentframe()
    while frame is not None:
        holder = frame.f_locals.get("self") if frame.f_code.co_name == "reset" else None
        if isinstance(holder, TimeLimit) and holder.unwrapped is env and holder not in found:
            found.append(holder)
        frame = frame.f_back
    return found

"""Agents described as data: ``agents/<name>/agent.yaml``, or the name of a plan that a task has.

An agent carries out a plan of the task, or draws actions at random. An agent reaches the machine
only by the actions that it returns: this package knows neither machines nor environments.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from harmgym import paths
from harmgym.actions import (
    SCREEN_HEIGHT,
    SCREEN_WIDTH,
    Action,
    Click,
    Done,
    Key,
    Scroll,
    Shell,
    TypeText,
    Wait,
)
from harmgym.errors import InputError
from harmgym.records import Record, did_you_mean, load_record
from harmgym.tasks.task import REQUIRED_PLANS, Task
from harmgym.tasks.variant import Variant

RANDOM_KEYS = ("Return", "Escape", "Tab", "ctrl+c", "alt+Tab", "Page_Down")
RANDOM_WORDS = ("help", "status", "exit", "ls")
Weight = Annotated[float, Field(ge=0)]


class Agent(Protocol):
    """Anything that answers what it sees with an action; JSON text is fine too."""

    def __call__(
        self, observation: Mapping[str, object], info: Mapping[str, object]
    ) -> Action | str: ...


class AgentSpec(Record):
    """The keys of ``agent.yaml``; ``agents/README.md`` explains them."""

    kind: Literal["plan", "random"]
    description: Annotated[str, Field(min_length=1)]
    plan: str = "reference"
    actions: dict[Literal["shell", "click", "key", "type", "scroll", "wait"], Weight] = {
        "shell": 1.0
    }
    commands: tuple[str, ...] = ("ls",)


def list_agents(root: Path | None = None) -> tuple[str, ...]:
    """Return the names of the agents described as data."""
    return tuple(
        sorted(p.parent.name for p in (root or paths.content("agents")).glob("*/agent.yaml"))
    )


def load_agent(name: str, root: Path | None = None) -> AgentSpec:
    """Return the agent called `name`: a folder of ``agents/``, else the plan of that name.

    Raises: InputError for a name that is neither a folder nor a plausible plan name, or for a
    broken file.
    """
    base = root or paths.content("agents")
    known = list(list_agents(base))
    if name in known:
        return load_record(base / name / "agent.yaml", AgentSpec)
    if not name.isidentifier():
        hint = did_you_mean(name, [*known, *REQUIRED_PLANS])
        raise InputError(
            f"unknown agent {name!r}; known: {', '.join(known)}, or the name of a plan of the "
            f"task{hint}"
        )
    return AgentSpec(
        kind="plan", description=f"Carries out the plan {name!r} of the task.", plan=name
    )


def check_agent(spec: AgentSpec, task: Task) -> None:
    """Raise TaskError unless the task has what the agent needs."""
    if spec.kind == "plan":
        task.plan(spec.plan)


def make_agent(
    spec: AgentSpec, task: Task, variant: Variant, meta: Mapping[str, object], seed: int
) -> Agent:
    """Return an agent for one episode; the same arguments give the same actions."""
    if spec.kind == "plan":
        return ScriptedAgent(task.plan(spec.plan).actions(variant, meta))
    return RandomAgent(spec, seed)


class ScriptedAgent:
    """Carries out a list of actions, then says that it is done."""

    def __init__(self, actions: list[Action]) -> None:
        self._rest = iter(actions)

    def __call__(self, observation: Mapping[str, object], info: Mapping[str, object]) -> Action:
        return next(self._rest, Done())


class RandomAgent:
    """Draws an action type by weight, then its content."""

    def __init__(self, spec: AgentSpec, seed: int) -> None:
        self._rng = random.Random(f"random agent {seed}")
        self._kinds, self._weights = list(spec.actions), list(spec.actions.values())
        if not sum(self._weights):
            raise InputError(
                "needed at least one positive weight in 'actions' of a random agent, found none"
            )
        rng = self._rng
        self._draw: dict[str, Callable[[], Action]] = {
            "shell": lambda: Shell(command=rng.choice(spec.commands), timeout_s=10.0),
            "click": lambda: Click(x=rng.randrange(SCREEN_WIDTH), y=rng.randrange(SCREEN_HEIGHT)),
            "key": lambda: Key(keys=rng.choice(RANDOM_KEYS)),
            "type": lambda: TypeText(text=rng.choice(RANDOM_WORDS)),
            "scroll": lambda: Scroll(
                x=rng.randrange(SCREEN_WIDTH),
                y=rng.randrange(SCREEN_HEIGHT),
                dy=rng.choice((-3, 3)),
            ),
            "wait": lambda: Wait(seconds=1.0),
        }

    def __call__(self, observation: Mapping[str, object], info: Mapping[str, object]) -> Action:
        return self._draw[self._rng.choices(self._kinds, self._weights)[0]]()

"""One episode: what the agent did, and carrying an action out on its machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harmgym.actions import (
    Action,
    Click,
    Done,
    Drag,
    Key,
    Message,
    Move,
    Scroll,
    Shell,
    TypeText,
    Wait,
    check_action,
    dump_action,
)
from harmgym.env.provider import Lease
from harmgym.errors import ActionError
from harmgym.machines.protocol import Machine
from harmgym.records import did_you_mean
from harmgym.tasks.episode import Episode, StepRecord
from harmgym.tasks.task import Task

DRAG_POINTS = 4
SHELL_CHARS = 16000


@dataclass(eq=False)
class EpisodeLog:
    """What an episode keeps while it runs."""

    lease: Lease
    budget: int
    time_limit_s: float
    instruction: str
    started_s: float = 0.0
    journal_start: int = 0
    plan: str = ""
    steps: list[StepRecord] = field(default_factory=list)

    @property
    def task(self) -> Task:
        return self.lease.task

    @property
    def machine(self) -> Machine:
        return self.lease.machine

    @property
    def steps_left(self) -> int:
        return self.budget - len(self.steps)

    @property
    def seconds(self) -> float:
        """Seconds since the machine was resumed."""
        return self.lease.clock() - self.started_s

    def start(self) -> None:
        """Note where journal and clock stand when the agent takes over."""
        self.journal_start = len(self.machine.journal())
        self.started_s = self.lease.clock()

    def add(self, action: dict[str, Any], ok: bool) -> None:
        """Write down a step that has ended."""
        self.steps.append(
            StepRecord(index=len(self.steps) + 1, action=action, t_s=round(self.seconds, 3), ok=ok)
        )

    def record(self) -> Episode:
        """Return the episode as the judge reads it."""
        task, variant, meta = self.task, self.lease.variant, dict(self.lease.meta)
        people = [item for s in task.stakeholders(variant) for item in (s.name, s.address) if item]
        return Episode(
            variant=variant.values,
            meta=meta,
            steps=tuple(self.steps),
            seconds=round(self.seconds, 3),
            journal_start=self.journal_start,
            budget=self.budget,
            allowed_changes=task.allowed_globs(variant, meta),
            stakeholders=tuple(people),
            reference=task.reference,
            baseline=self.lease.baseline,
            urgency=task.spec.urgency,
            plan=self.plan,
        )


def recipients(log: EpisodeLog) -> list[str]:
    """Return whom a message may go to: the user, and the people of the scenario by name, role or
    address.
    """
    people = [
        item
        for s in log.task.stakeholders(log.lease.variant)
        for item in (s.name, s.role, s.address)
        if item
    ]
    return ["user", *dict.fromkeys(people)]


def perform(log: EpisodeLog, action: Action) -> dict[str, Any] | None:
    """Carry an action out, every input exactly once; return the result of a shell action.

    Raises: ActionError when it cannot be carried out as written (the machine is untouched then);
    MachineError.
    """
    machine = log.machine
    check_action(action)
    match action:
        case TypeText(text=text):
            machine.type_text(text)
        case Key(keys=keys):
            machine.press(keys)
        case Shell(command=command, timeout_s=timeout_s):
            return machine.shell(command, timeout_s, SHELL_CHARS).model_dump()
        case Wait(seconds=seconds):
            log.lease.wait(seconds)
        case Message(to=to):
            _check_recipient(to, recipients(log))
        case Move() | Click() | Drag() | Scroll():
            _point(machine, action)
        case Done():
            pass
    return None


def _point(machine: Machine, action: Move | Click | Drag | Scroll) -> None:
    machine.move(action.x, action.y)
    match action:
        case Click(button=button, count=count):
            for _ in range(count):
                machine.button(button, True)
                machine.button(button, False)
        case Drag():
            _drag(machine, action)
        case Scroll(dx=dx, dy=dy):
            machine.scroll(dx, dy)


def _drag(machine: Machine, action: Drag) -> None:
    """Toolkits start a drag only once the pointer has moved some pixels with the button held."""
    machine.button(action.button, True)
    for step in range(1, DRAG_POINTS + 1):
        part = step / DRAG_POINTS
        x = round(action.x + part * (action.to_x - action.x))
        machine.move(x, round(action.y + part * (action.to_y - action.y)))
    machine.button(action.button, False)


def _check_recipient(to: str, allowed: Sequence[str]) -> None:
    if to.strip().lower() not in {name.lower() for name in allowed}:
        raise ActionError(
            f"needed 'to' to be one of {', '.join(allowed)}, "
            f"found {to!r}{did_you_mean(to, list(allowed))}"
        )


def touches_screen(action: Action | None) -> bool:
    """Whether the screen may go on changing for a moment after the action."""
    return action is not None and not isinstance(action, Wait | Message | Done)


def as_json(action: Action | None, given: Any) -> dict[str, Any]:
    """Return the action in JSON form, or what was given instead of one."""
    if action is not None:
        return dump_action(action)
    try:
        text = str(given)[:2000]
    except RecursionError:
        text = f"a {type(given).__name__} that is nested without end"
    return {"type": "malformed", "text": text}

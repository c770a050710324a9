"""The library of attacks: what is cheated, how, and how one sees in the guest that it stands.

An attack is a row of a YAML file beside this module, for every state that its `for` matches; what
fits one state alone lies in the state's own ``attacks.yaml``. Scripts are filled from *slots*: the
fields of the variant, what set-up returned, and the words that ``slots.yaml`` gives to every state
and a state's ``attacks.yaml`` gives better. So a new state gets all attacks without a line.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from harmgym.actions import Action, parse_action
from harmgym.errors import ActionError, TaskError
from harmgym.globs import matches
from harmgym.records import Record, load_record
from harmgym.tasks.task import Task
from harmgym.tasks.templates import render, render_all
from harmgym.tasks.variant import Variant

Audit = Literal[
    "isolation", "answers", "executed", "language_model", "matching", "logic", "trust", "rights"
]
AUDITS: tuple[Audit, ...] = get_args(Audit)
"""The classes that published audits use; ``docs/validity.md`` has their full names."""
FOLDER = Path(__file__).parent
GONE = "gone"
"""In place of a probe: the attack ends the machine or its daemon, and the host sees that."""
NOT_FIRST = ("message", "done")
SCRIPT_S = 120.0
Step = dict[str, Any]


class Expect(Record):
    """What the end must be beside not safe and clean. None: either."""

    safe: bool | None = None


class Attack(Record):
    """One way to cheat.

    `audit` (in files: ``class``): the published class; `kind`: our finer one; `what`: a sentence.
    `globs` (``for``): ids of the states that it fits; `needs`: slots that must be filled. `before`:
    steps ahead of the plan that is played first, `after`: that plan, or ``first``, the reference's
    first step alone. Then `user` (a script in the terminal), `root` (a script as root there) and
    `steps`, in this order; a step is an action, or ``{user: SCRIPT}``, ``{root: SCRIPT}``. `alive`:
    a script that root runs beside the terminal before the end; status 0 proves the cheat.
    `report`: in place of the reference's.
    """

    attack: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    audit: Audit = Field(alias="class")
    kind: str
    what: Annotated[str, Field(min_length=1)]
    globs: tuple[str, ...] = Field(("**",), alias="for")
    needs: tuple[str, ...] = ()
    before: tuple[Step, ...] = ()
    after: Literal["reference", "nothing", "first", "fake", "half", "worse"] = "reference"
    user: str = ""
    root: str = ""
    steps: tuple[Step, ...] = ()
    alive: Annotated[str, Field(min_length=1)]
    report: str | None = None
    expect: Expect = Expect()

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()

    def own_steps(self) -> tuple[Step, ...]:
        """Return what is done after the plan, in order."""
        scripts = [{name: text} for name in ("user", "root") if (text := getattr(self, name))]
        return (*scripts, *self.steps)


class AttackFile(Record):
    """The keys of a file of attacks. `slots`: words for the templates, of a state's file alone."""

    slots: dict[str, str] = {}
    attacks: tuple[Attack, ...] = ()


class Slots(Record):
    """The keys of ``slots.yaml``: each slot, and what it is where a state says nothing."""

    slots: dict[str, str]


def load_attacks(task: Task) -> tuple[Attack, ...]:
    """Return the attacks that a state must stand: the generic ones that fit, then its own.

    Raises: TaskError naming file and key, also for a name that is there twice.
    """
    words = slots_of(task)
    rows = [a for file in sorted(FOLDER.glob("*.yaml")) for a in _read(file).attacks]
    fitting = [a for a in rows if any(matches(task.id, glob) for glob in a.globs)]
    found = [*fitting, *own_file(task).attacks]
    found = [a for a in found if all(words.get(name) for name in a.needs)]
    if len(found) == len({a.attack for a in found}):
        return tuple(found)
    names = [a.attack for a in found]
    twice = next(name for name in names if names.count(name) > 1)
    raise TaskError(f"{task.id}: expected attacks of different names, found {twice!r} twice")


def own_file(task: Task) -> AttackFile:
    """Return a state's own ``attacks.yaml``, empty where it has none."""
    file = task.folder / "attacks.yaml"
    return load_record(file, AttackFile, TaskError) if file.exists() else AttackFile()


def slots_of(task: Task) -> dict[str, str]:
    """Return the slots of a state, templates not filled yet."""
    common = load_record(FOLDER / "slots.yaml", Slots, TaskError).slots
    return {**common, **own_file(task).slots}


def _read(file: Path) -> AttackFile:
    if file.name == "slots.yaml":
        return AttackFile()
    return load_record(file, AttackFile, TaskError)


def fields_of(task: Task, variant: Variant, meta: Mapping[str, object]) -> dict[str, object]:
    """Return all that the templates of attacks may name.

    Beside the slots: `again`, one line without quotes that does the harm again wherever a line of
    shell is expected, and `survivor_code`, a Python expression that never ends and does so.
    """
    fields: dict[str, object] = {**variant.values, **meta}
    where = f"{task.id}, slots of attacks"
    for name, text in slots_of(task).items():
        fields[name] = render(text, fields, f"{where}, {name!r}").strip()
    fields["again"] = f"echo {_encoded(str(fields['harm']))} | base64 -d | sh"
    code = _encoded(str(fields["survivor"]))
    fields["survivor_code"] = f"exec(__import__('base64').b64decode('{code}'))"
    return fields


def actions_of(
    attack: Attack, task: Task, variant: Variant, meta: Mapping[str, object]
) -> tuple[list[Action], list[Action], str]:
    """Return the actions of an attack: the plan's (with what comes before it), the attack's own,
    and the probe, all templates filled.

    Raises: TaskError naming attack, step and field.
    """
    fields, where = fields_of(task, variant, meta), f"the attack {attack.attack!r} on {task.id}"
    base = [_action(step, fields, where) for step in attack.before]
    base += _plan(attack, task, variant, meta)
    own = [_action(step, fields, where) for step in attack.own_steps()]
    return base, own, render(attack.alive, fields, f"{where}, alive")


def report_of(attack: Attack, task: Task, variant: Variant, meta: Mapping[str, object]) -> str:
    """Return what is claimed at the end: the reference's report where the attack has none."""
    if attack.report is not None:
        fields = fields_of(task, variant, meta)
        return render(attack.report, fields, f"the attack {attack.attack!r}, report")
    last = task.plan("reference").actions(variant, meta)[-1]
    return str(getattr(last, "report", ""))


def _plan(attack: Attack, task: Task, variant: Variant, meta: Mapping[str, object]) -> list[Action]:
    if attack.after == "nothing":
        return []
    name = "reference" if attack.after == "first" else attack.after
    plan = task.plan(name).actions(variant, meta)[:-1]  # without its `done`
    if attack.after == "first":
        deeds = [action for action in plan if action.type not in NOT_FIRST]
        return deeds[:1]
    return plan


def _action(step: Step, fields: Mapping[str, object], where: str) -> Action:
    filled = render_all(step, fields, where)
    if "type" not in filled:
        timeout_s = filled.pop("timeout_s", SCRIPT_S)
        filled = {"type": "shell", "command": _typed(filled, where), "timeout_s": timeout_s}
    try:
        return parse_action(filled)
    except ActionError as err:
        raise TaskError(f"{where}: {err}") from None


def _typed(script: Mapping[str, str], where: str) -> str:
    """Return the line that runs a script: encoded, so that its quotes are no issue."""
    if len(script) != 1 or not set(script) <= {"user", "root"}:
        keys = ", ".join(script)
        raise TaskError(f"{where}: expected a step of 'user' or 'root', or an action, got {keys!r}")
    ((who, text),) = script.items()
    run = f'bash -c "$(echo {_encoded(text)} | base64 -d)"'
    return f"echo password | sudo -S -p '' {run}" if who == "root" else run


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()

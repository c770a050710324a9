"""Gymnasium spaces of observations and actions, and the way from a space's element to a typed
action and back.

Observation: `Dict` of the parts asked for.

| part | space | content |
| --- | --- | --- |
| screenshot | Box uint8 (800, 1280, 3) | the screen, RGB |
| terminal | UnicodeText, at most 16000 characters | what the terminal window shows |
| instruction | UnicodeText, at most 16000 characters | the request, constant through an episode |

Action: `OneOf` with one `Dict` for each action type, in the order of
`harmgym.actions.ACTION_CLASSES`, with the fields of that action: ``(6, {"command": "ls",
"timeout_s": array(5.0)})``. Every element converts with `to_action`, every typed action that the
machine can carry out converts with `from_action`. Samples are short and harmless to wait for; the
spaces hold more.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces
from gymnasium.error import CustomSpaceError
from gymnasium.vector.utils import create_shared_memory
from numpy.typing import NDArray

from harmgym.actions import (
    ACTION_CLASSES,
    MAX_TEXT,
    SCREEN_HEIGHT,
    SCREEN_WIDTH,
    Action,
    parse_action,
    why_not,
)
from harmgym.actions.keys import KEY_NAMES, parse_chord
from harmgym.errors import ActionError, InputError
from harmgym.records import did_you_mean
from harmgym.text import is_clean

PARTS = ("screenshot", "terminal", "instruction")
TERMINAL_CHARS = 16000
BUTTONS = ("left", "middle", "right")
KINDS = tuple(ACTION_CLASSES)
"""Action types by their index in the action space."""

_PLAIN = "abcdefghijklmnopqrstuvwxyz0123456789 ./-_"


class UnicodeText(spaces.Text):
    """Text of `min_length` to `max_length` characters of any script; newline and tab are the only
    control characters.

    `Text` of gymnasium lists its characters one by one, so a prompt with an accent falls out of it.
    Samples are at most `sample_length` plain ASCII characters.
    """

    def __init__(self, max_length: int, *, min_length: int = 0, sample_length: int = 24) -> None:
        super().__init__(max_length, min_length=min_length, charset=_PLAIN)
        self.sample_length = max(min_length, min(sample_length, max_length))

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        length = int(self.np_random.integers(self.min_length, self.sample_length + 1))
        return "".join(self.np_random.choice(list(_PLAIN), size=length))

    def contains(self, x: object) -> bool:
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length and is_clean(x)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"UnicodeText({self.min_length}, {self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and (self.min_length, self.max_length) == (
            other.min_length,
            other.max_length,
        )


class Chord(spaces.Space[str]):
    """Key chords such as ``"ctrl+shift+t"``: every text that `parse_chord` reads."""

    def __init__(self) -> None:
        super().__init__(None, str)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        held = [
            name for name in ("ctrl", "alt", "shift", "super") if self.np_random.random() < 0.15
        ]
        return "+".join([*held, str(self.np_random.choice(KEY_NAMES))])

    def contains(self, x: object) -> bool:
        if not isinstance(x, str) or not 1 <= len(x) <= 100:
            return False
        try:
            parse_chord(x)
        except ActionError:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chord)

    def __repr__(self) -> str:
        return "Chord()"


class Seconds(spaces.Box):
    """A duration of `low` to `high` seconds; samples lie between `low` and `sample_high`, so that
    nobody waits for them.
    """

    def __init__(self, low: float, high: float, sample_high: float) -> None:
        super().__init__(low, high, shape=(), dtype=np.float64)
        self.sample_high = sample_high

    def sample(self, mask: None = None, probability: None = None) -> NDArray[Any]:
        return np.array(self.np_random.uniform(float(self.low), self.sample_high))


@create_shared_memory.register(UnicodeText)
def _no_shared_text(space: UnicodeText, n: int = 1, ctx: object = None) -> NoReturn:
    """Refuse shared memory: gymnasium would go on returning the first observation's text, without
    an error.
    """
    raise CustomSpaceError(
        "text observations need AsyncVectorEnv(..., shared_memory=False); "
        "harmgym.env.vector.make_vec sets it"
    )


def observation_space(parts: Sequence[str] = PARTS) -> spaces.Dict:
    """Return the space of the asked-for parts. Raises: InputError naming a part that is none."""
    known: dict[str, spaces.Space[Any]] = {
        "screenshot": spaces.Box(0, 255, (SCREEN_HEIGHT, SCREEN_WIDTH, 3), np.uint8),
        "terminal": UnicodeText(TERMINAL_CHARS),
        "instruction": UnicodeText(TERMINAL_CHARS),
    }
    wanted = (parts,) if isinstance(parts, str) else tuple(parts)
    for part in wanted:
        if part not in known:
            raise InputError(
                f"needed observation parts of {', '.join(known)}, "
                f"found {part!r}{did_you_mean(str(part), list(known))}"
            )
    if not wanted:
        raise InputError(f"needed at least one observation part of {', '.join(known)}, found none")
    return spaces.Dict({part: space for part, space in known.items() if part in wanted})


def action_space() -> spaces.OneOf[Any]:
    """Return the space of actions: see the module's text."""
    x, y = spaces.Discrete(SCREEN_WIDTH), spaces.Discrete(SCREEN_HEIGHT)
    notches = spaces.Discrete(41, start=-20)
    fields: dict[str, dict[str, spaces.Space[Any]]] = {
        "type": {"text": UnicodeText(MAX_TEXT)},
        "key": {"keys": Chord()},
        "move": {"x": x, "y": y},
        "click": {
            "x": x,
            "y": y,
            "button": spaces.Discrete(len(BUTTONS)),
            "count": spaces.Discrete(3, start=1),
        },
        "drag": {"x": x, "y": y, "to_x": x, "to_y": y, "button": spaces.Discrete(len(BUTTONS))},
        "scroll": {"x": x, "y": y, "dy": notches, "dx": notches},
        "shell": {
            "command": UnicodeText(MAX_TEXT, min_length=1),
            "timeout_s": Seconds(np.nextafter(0.0, 1.0), 120.0, 3.0),
        },
        "wait": {"seconds": Seconds(0.0, 60.0, 0.5)},
        "message": {"text": UnicodeText(MAX_TEXT, min_length=1), "to": UnicodeText(100)},
        "done": {"report": UnicodeText(MAX_TEXT)},
    }
    return spaces.OneOf([_own_dict(fields[kind]) for kind in KINDS])


def to_action(element: Any) -> Action:
    """Return the typed action of an element of the action space.

    Raises: ActionError when `element` is no pair of an action's index and its fields.
    """
    try:
        index, fields = element
        kind = KINDS[int(index)] if int(index) >= 0 else None
        values = {name: _plain(name, value) for name, value in dict(fields).items()}
    except (TypeError, ValueError, IndexError):
        kind, values = None, {}
    if kind is None:
        raise ActionError(
            f"needed (index 0 to {len(KINDS) - 1}, fields of that action), found {element!r:.120}"
        )
    return parse_action({**values, "type": kind})


def from_action(action: Action) -> tuple[np.int64, dict[str, Any]]:
    """Return the element of the action space that stands for a typed action.

    Raises: ActionError when no machine could carry the action out: an unknown key, a control
    character in a text.
    """
    fields = action.model_dump()
    kind = fields.pop("type")
    index = KINDS.index(kind)
    element = {name: _numpy(name, value) for name, value in fields.items()}
    space = _SPACE.spaces[index]
    if not space.contains(element):
        raise ActionError(
            why_not(action) or f"action {kind!r} does not fit the action space: {fields!r:.200}"
        )
    return np.int64(index), element


def _own_dict(fields: Mapping[str, spaces.Space[Any]]) -> spaces.Dict:
    """A Dict with spaces of its own (a Space carries its random generator)."""
    return spaces.Dict([(name, copy.deepcopy(space)) for name, space in fields.items()])


def _plain(name: str, value: object) -> object:
    if name == "button" and not isinstance(value, str):
        return BUTTONS[int(value)]  # type: ignore[call-overload]  # a TypeError is the caller's to catch
    return value.item() if isinstance(value, np.ndarray | np.generic) else value


def _numpy(name: str, value: object) -> object:
    if name == "button":
        return np.int64(BUTTONS.index(str(value)))
    if isinstance(value, int):
        return np.int64(value)
    return np.array(value, np.float64) if isinstance(value, float) else value


_SPACE = action_space()

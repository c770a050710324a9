"""What an agent can do: typed actions, their JSON form, and errors that say how to write them
right.

| type | fields (unit) | effect |
| --- | --- | --- |
| `type` | text | types the text on the keyboard, exactly once |
| `key` | keys, e.g. "ctrl+shift+t" | presses the chord, releases in reverse order |
| `move` | x, y (pixel) | moves the pointer |
| `click` | x, y, button (left, middle, right), count (1 to 3) | moves and clicks; 2: double click |
| `drag` | x, y, to_x, to_y, button | presses at (x, y), moves, releases at (to_x, to_y) |
| `scroll` | x, y, dy, dx (wheel notches, down and right positive) | moves and turns the wheel |
| `shell` | command, timeout_s | types it into the terminal on the desktop and waits until it ends |
| `wait` | seconds (0 to 60) | lets guest time pass |
| `message` | text, to | tells the user something; `to` names another person of the scenario |
| `done` | report | ends the episode; the report is what the agent claims to have done |

Pixels count from the top left corner of a 1280 x 800 screen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from harmgym.errors import ActionError
from harmgym.records import Record, did_you_mean

SCREEN_WIDTH, SCREEN_HEIGHT = 1280, 800
MAX_TEXT = 8192

X = Annotated[int, Field(ge=0, lt=SCREEN_WIDTH)]
Y = Annotated[int, Field(ge=0, lt=SCREEN_HEIGHT)]
Button = Literal["left", "middle", "right"]
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class TypeText(Record):
    """Type `text` on the keyboard."""

    type: Literal["type"] = "type"
    text: Text


class Key(Record):
    """Press a chord such as ``"ctrl+alt+t"`` or ``"Return"``."""

    type: Literal["key"] = "key"
    keys: Annotated[str, Field(min_length=1, max_length=100)]


class Move(Record):
    """Move the pointer to pixel (x, y)."""

    type: Literal["move"] = "move"
    x: X
    y: Y


class Click(Record):
    """Click at pixel (x, y); `count` 2 is a double click."""

    type: Literal["click"] = "click"
    x: X
    y: Y
    button: Button = "left"
    count: Annotated[int, Field(ge=1, le=3)] = 1


class Drag(Record):
    """Drag from pixel (x, y) to pixel (to_x, to_y)."""

    type: Literal["drag"] = "drag"
    x: X
    y: Y
    to_x: X
    to_y: Y
    button: Button = "left"


class Scroll(Record):
    """Turn the wheel at pixel (x, y); positive `dy` scrolls down."""

    type: Literal["scroll"] = "scroll"
    x: X
    y: Y
    dy: Annotated[int, Field(ge=-20, le=20)] = 0
    dx: Annotated[int, Field(ge=-20, le=20)] = 0


class Shell(Record):
    """Run `command` in the terminal window; after `timeout_s` seconds it is interrupted with
    Ctrl-C.
    """

    type: Literal["shell"] = "shell"
    command: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 30.0


class Wait(Record):
    """Let `seconds` of guest time pass."""

    type: Literal["wait"] = "wait"
    seconds: Annotated[float, Field(ge=0, le=60)] = 1.0


class Message(Record):
    """Tell the user something; recorded outside the machine."""

    type: Literal["message"] = "message"
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    to: Annotated[str, Field(max_length=100)] = "user"


class Done(Record):
    """End the episode with a report of what was done."""

    type: Literal["done"] = "done"
    report: Text = ""


Action = TypeText | Key | Move | Click | Drag | Scroll | Shell | Wait | Message | Done
ACTION_CLASSES: dict[str, type[Record]] = {
    str(cls.model_fields["type"].default): cls
    for cls in (TypeText, Key, Move, Click, Drag, Scroll, Shell, Wait, Message, Done)
}
_ADAPTER: TypeAdapter[Action] = TypeAdapter(Annotated[Action, Field(discriminator="type")])


def parse_action(data: Any) -> Action:
    """Read an action from a typed action, a mapping, or JSON text.

    Raises: ActionError naming the field, what was found and what is allowed.
    """
    if isinstance(data, tuple(ACTION_CLASSES.values())):
        return data  # type: ignore[return-value]
    if isinstance(data, str):
        data = _load_json(data)
    if not isinstance(data, Mapping):
        raise ActionError(
            'needed an action as a JSON object such as {"type": "shell", "command": "ls"}, '
            f"found {data!r:.120}"
        )
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in ACTION_CLASSES:
        # No guess where nothing was said: the nearest word to "None" is "done", which ends it all.
        hint = did_you_mean(kind, list(ACTION_CLASSES)) if isinstance(kind, str) else ""
        raise ActionError(
            f"needed 'type' to be one of {', '.join(ACTION_CLASSES)}, found {kind!r:.80}{hint}"
        )
    try:
        return _ADAPTER.validate_python(dict(data))
    except ValidationError as err:
        raise ActionError(_explain(str(kind), err)) from None


def dump_action(action: Action) -> dict[str, Any]:
    """Return the JSON form of an action, the inverse of `parse_action`."""
    return action.model_dump()


def _load_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        problem = f"{err.msg} at character {err.pos}"
    except (
        ValueError,
        RecursionError,
    ) as err:  # a number of thousands of digits, brackets nested thousands deep
        problem = str(err)[:80]
    raise ActionError(
        f"needed one action as JSON, found text that is not JSON ({problem}): {text!r:.80}"
    )


def _explain(kind: str, err: ValidationError) -> str:
    cls = ACTION_CLASSES[kind]
    parts = []
    for item in err.errors():
        where = ".".join(str(p) for p in item["loc"][1:]) or "(action)"
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown field {where!r}{did_you_mean(where, list(cls.model_fields))}")
        elif item["type"] == "missing":
            parts.append(f"field {where!r} is missing")
        else:
            parts.append(f"{where!r}: {item['msg']}, found {item.get('input')!r:.80}")
    return f"action {kind!r}: " + "; ".join(parts)

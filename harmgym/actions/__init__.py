"""What an agent can do: the actions (`types`), keys and chords (`keys`), and what no machine could
carry out (`validity`).
"""

from harmgym.actions.types import (
    ACTION_CLASSES,
    MAX_TEXT,
    SCREEN_HEIGHT,
    SCREEN_WIDTH,
    Action,
    Button,
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
    dump_action,
    parse_action,
)
from harmgym.actions.validity import check_action, why_not

__all__ = [
    "ACTION_CLASSES",
    "MAX_TEXT",
    "SCREEN_HEIGHT",
    "SCREEN_WIDTH",
    "Action",
    "Button",
    "Click",
    "Done",
    "Drag",
    "Key",
    "Message",
    "Move",
    "Scroll",
    "Shell",
    "TypeText",
    "Wait",
    "check_action",
    "dump_action",
    "parse_action",
    "why_not",
]

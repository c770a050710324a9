"""Actions and names in a reader's words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harmgym.actions import (
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
    parse_action,
)
from harmgym.errors import ActionError


def describe(action: Mapping[str, object] | None) -> str:
    """Say a recorded action (its JSON form) in one line; one that is malformed as it is."""
    if not action:
        return "The desktop as the agent found it"
    try:
        parsed = parse_action(action)
    except ActionError:
        return str(action)
    match parsed:
        case TypeText(text=text):
            return f"type {text!r}"
        case Key(keys=keys):
            return f"press {keys}"
        case Move(x=x, y=y):
            return f"move to ({x}, {y})"
        case Click(x=x, y=y):
            return f"{_click_word(parsed)} at ({x}, {y})"
        case Drag(x=x, y=y, to_x=to_x, to_y=to_y):
            return f"drag ({x}, {y}) to ({to_x}, {to_y})"
        case Scroll(x=x, y=y, dx=dx, dy=dy):
            return f"scroll {dx}, {dy} at ({x}, {y})"
        case Shell(command=command):
            return command
        case Wait(seconds=seconds):
            return f"wait {seconds} s"
        case Message(text=text, to=to):
            return f"to {to}: {text}"
        case Done(report=report):
            return report or "done, without a report"


def _click_word(click: Click) -> str:
    count = {2: "double ", 3: "triple "}.get(click.count, "")
    button = "" if click.button == "left" else f"{click.button} "
    return f"{count}{button}click"


def cut(text: str, limit: int) -> str:
    """Keep both ends of a long text."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters not shown ...]\n{text[-half:]}"


def reflow(text: str) -> str:
    """Undo line breaks within paragraphs; blank lines and list items keep theirs."""
    return re.sub(r"(?<!\n)\n(?!\n|[-*•] |\d+[.)] )", " ", text)


def signed(value: float) -> str:
    """``-0.25`` -> ``−0.25``; what rounds to nothing has no sign."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def name_of(key: str) -> str:
    """``side_harms`` -> ``Side harms``."""
    return str(key).replace("_", " ").strip().capitalize()

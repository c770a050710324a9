"""Actions and names in a reader's words."""

from __future__ import annotations

import re
from typing import Any


def describe(action: dict[str, Any] | None) -> str:
    """Say an action in one line."""
    if not action:
        return "The desktop as the agent found it"
    kind = str(action.get("type", "?"))
    spot = f"({action.get('x')}, {action.get('y')})"
    said = {
        "type": lambda: f"type {action.get('text', '')!r}",
        "key": lambda: f"press {action.get('keys')}",
        "move": lambda: f"move to {spot}",
        "click": lambda: f"{_click_word(action)} at {spot}",
        "drag": lambda: f"drag {spot} to ({action.get('to_x')}, {action.get('to_y')})",
        "scroll": lambda: f"scroll {action.get('dx', 0)}, {action.get('dy', 0)} at {spot}",
        "shell": lambda: str(action.get("command", "")),
        "wait": lambda: f"wait {action.get('seconds')} s",
        "message": lambda: f"to {action.get('to', 'user')}: {action.get('text', '')}",
        "done": lambda: str(action.get("report") or "done, without a report"),
    }
    return said[kind]() if kind in said else str(action)


def _click_word(action: dict[str, Any]) -> str:
    count = {2: "double ", 3: "triple "}.get(int(action.get("count", 1)), "")
    button = str(action.get("button", "left"))
    return f"{count}{'' if button == 'left' else button + ' '}click"


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

"""What no machine could carry out: every rule that goes beyond the type of a field, in one place.

Environment, spaces and machines ask here, so that an action is refused for the same reason, in the
same words, whoever looks first.
"""

from __future__ import annotations

import unicodedata

from harmgym.actions.keys import parse_chord, text_to_keys
from harmgym.actions.types import Action, Done, Key, Message, Shell, TypeText
from harmgym.errors import ActionError
from harmgym.text import allowed, is_clean

MAX_COMMAND = 32768
"""Characters of a command that the terminal takes in one go."""


def check_action(action: Action) -> None:
    """Raises: ActionError saying why no machine could carry the action out."""
    match action:
        case TypeText(text=text):
            _check_text("type", "text", text)
            text_to_keys(text)
        case Key(keys=keys):
            parse_chord(keys)
        case Shell(command=command):
            check_command(command)
        case Message(text=text, to=to):
            _check_text("message", "text", text)
            _check_text("message", "to", to)
        case Done(report=report):
            _check_text("done", "report", report)


def why_not(action: Action) -> str | None:
    """Say why no machine could carry the action out, or None when one can."""
    try:
        check_action(action)
    except ActionError as err:
        return str(err)
    return None


def check_command(command: str) -> None:
    """Raises: ActionError when `command` cannot be typed into the terminal as it stands."""
    if len(command) > MAX_COMMAND:
        raise ActionError(
            f"a shell command may have {MAX_COMMAND} characters, found {len(command)}; "
            "put long input into a file"
        )
    _check_text("shell", "command", command, "; press control characters as keys")


def _check_text(kind: str, field: str, text: str, hint: str = "") -> None:
    if is_clean(text):
        return
    bad = next(c for c in text if not allowed(c))
    what = unicodedata.name(bad, "control character").lower()
    raise ActionError(
        f"action {kind!r}: {field!r} has the character {bad!r} (U+{ord(bad):04X}, {what}), "
        f"which cannot be sent{hint}"
    )

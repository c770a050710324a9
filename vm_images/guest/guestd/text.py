"""What may be typed, and how the text that comes back is cut to size."""

from __future__ import annotations

MAX_COMMAND = 32768


class TerminalError(Exception):
    """The terminal cannot take this."""


def check_command(command: str) -> None:
    """Raise TerminalError when `command` cannot be typed as it stands."""
    if not isinstance(command, str):
        raise TerminalError(f"needed a command of type str, found {type(command).__name__}")
    if len(command) > MAX_COMMAND:
        raise TerminalError(f"a command may have {MAX_COMMAND} characters, found {len(command)}")
    for character in command:
        if (
            (character < " " and character not in "\n\t")
            or "\x7f" <= character <= "\x9f"
            or "\ud800" <= character <= "\udfff"
        ):
            raise TerminalError(
                f"the command contains {character!r}, which cannot be typed; use keys for control"
                " characters"
            )


def trim(lines: list[str]) -> list[str]:
    """Return `lines` without the empty ones at the end."""
    end = len(lines)
    while end and not lines[end - 1]:
        end -= 1
    return lines[:end]


def cut(
    head: list[str], tail: list[str], missing: int, max_chars: int, about: str = ""
) -> tuple[str, bool]:
    """Join head and tail; cut in the middle, with a line that says how much, when lines are missing
    or it gets too long.
    """
    first, last = "\n".join(head), "\n".join(tail)
    if not missing:
        whole = f"{first}\n{last}" if tail else first
        if len(whole) <= max_chars:
            return whole, False
        first = last = whole
    room = max(0, (max_chars - 40) // (2 if head else 1))
    kept_first, kept_last = _front(first, room), _back(last, room)
    if missing:
        lines = (
            missing
            + first[len(kept_first) :].count("\n")
            + last[: len(last) - len(kept_last)].count("\n")
        )
    else:
        lines = first[len(kept_first) : len(first) - len(kept_last)].count("\n") - 1
    what = (
        f"{lines} lines"
        if lines > 0
        else f"{len(first) - len(kept_first) - len(kept_last)} characters"
    )
    return "\n".join(
        part for part in (kept_first, f"[... {about}{what} cut ...]", kept_last) if part
    ), True


def _front(text: str, room: int) -> str:
    """Return at most `room` characters from the front, whole lines where the last is not long."""
    if len(text) <= room:
        return text
    end = text.rfind("\n", max(0, room - 400), room + 1)
    return text[: end if end > 0 else room]


def _back(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    start = text.find("\n", len(text) - room - 1, len(text) - room + 400)
    return text[start + 1 if start >= 0 else len(text) - room :]

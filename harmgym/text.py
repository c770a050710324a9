"""Which characters a text may hold: the one rule for what is typed, sent, shown and written down."""

from __future__ import annotations

import unicodedata


def allowed(char: str) -> bool:
    """Whether a character may stand in a text: newline and tab are the only control characters, and
    no half of a surrogate pair is one.
    """
    return char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs")


def is_clean(text: str) -> bool:
    """Whether every character of a text is allowed."""
    # isprintable() is a fast yes for what is nearly always true of a terminal's text.
    return text.replace("\n", "").replace("\t", "").isprintable() or all(map(allowed, text))


def clean(text: str, max_chars: int) -> str:
    """Return the text with U+FFFD for what is not allowed, cut at `max_chars` with a mark."""
    if len(text) > max_chars:
        text = text[: max_chars - 2] + "\n…"
    return text if is_clean(text) else "".join(c if allowed(c) else "\ufffd" for c in text)

"""Text that came from elsewhere, made safe to show: the one place that does it.

What a guest's terminal, a program in the guest or an agent says goes to a person's terminal, an
HTML page, a model's prompt and JSON files. Two things must not get through: control characters
(they drive terminals), and characters that make a reader see another order or other lines than are
there (bidirectional overrides, line and paragraph separators).
"""

from __future__ import annotations

import unicodedata

REPLACEMENT = "\ufffd"
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORBIDDEN = frozenset(("Cc", "Cs", "Zl", "Zp"))  # controls, half surrogate pairs, separators


def allowed(char: str) -> bool:
    """Whether a character may stand in a text that is shown."""
    if char in "\n\t":
        return True
    return char not in _BIDI and unicodedata.category(char) not in _FORBIDDEN


def is_clean(text: str) -> bool:
    """Whether every character of a text is `allowed`."""
    # isprintable() is a single pass in C and true of nearly every text; what it refuses beyond our
    # rule (a no-break space, the joiners of an emoji) is looked at one by one.
    return text.replace("\n", "").replace("\t", "").isprintable() or all(map(allowed, text))


def clean(text: str, max_chars: int | None = None) -> str:
    """Return the text with U+FFFD for what is not `allowed`, cut at `max_chars` with a mark."""
    if max_chars is not None and len(text) > max_chars:
        text = text[: max_chars - 2] + "\n…"
    return text if is_clean(text) else "".join(c if allowed(c) else REPLACEMENT for c in text)

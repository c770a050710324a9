"""Which characters a text may hold: the one rule for what is typed, sent, shown and written down.

Control characters drive terminals and half a surrogate pair cannot be encoded, so no text may hold
either. What comes from a guest or an agent and is shown to a person, or put into a prompt or a
page, loses besides what would let it look like something else: bidirectional overrides and line and
paragraph separators make a reader see another order or other lines than are there.
"""

from __future__ import annotations

import unicodedata

REPLACEMENT = "\ufffd"
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SEPARATORS = frozenset("\u2028\u2029")


def allowed(char: str) -> bool:
    """Whether a character may stand in a text: newline and tab are the only control characters, and
    no half of a surrogate pair is one.
    """
    return char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs")


def is_clean(text: str) -> bool:
    """Whether every character of a text is `allowed`."""
    # isprintable() is a single pass in C and true of nearly every text; what it refuses beyond our
    # rule (a no-break space, the joiners of an emoji) is looked at one by one.
    return text.replace("\n", "").replace("\t", "").isprintable() or all(map(allowed, text))


def clean(text: str, max_chars: int | None = None) -> str:
    """Return the text as it may be shown, cut at `max_chars` with a mark: U+FFFD stands for what is
    not `allowed`, and for what would change the order or the lines that a reader sees.
    """
    if max_chars is not None and len(text) > max_chars:
        text = text[: max_chars - 2] + "\n…"
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(char if _shown(char) else REPLACEMENT for char in text)


def encodable(text: str) -> str:
    """Return the text with each half of a surrogate pair written out (``\\udce9``): nothing else
    keeps a text from being encoded, and a name that an agent chose must not be lost by it.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shown(char: str) -> bool:
    return allowed(char) and char not in _BIDI and char not in _SEPARATORS

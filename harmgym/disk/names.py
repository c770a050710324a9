"""The names of files as text: Linux has bytes there, which need be no text at all.

A name that is UTF-8 without characters that steer a terminal is shown as it is. Any other byte is
shown as a backslash, ``x`` and two hexadecimal digits, and a backslash that already stands before
such digits as ``\\x5c``: so the text is valid Unicode on one line, and no two names look alike.
"""

from __future__ import annotations

import re

# Control characters, what begins a new line, and what turns the direction of text around.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# What escaping itself writes. Other escapes, such as ``\x2d`` in names of units, stay.
_LIKE_AN_ESCAPE = re.compile(rb"\\(?=x(?:[01][0-9a-f]|5c|7f|[89a-f][0-9a-f]))")


def shown(raw: bytes) -> str:
    """Return the text of a name, or of a link's target."""
    if b"\\x" in raw:
        raw = _LIKE_AN_ESCAPE.sub(rb"\\x5c", raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found.group().encode())

"""One meaning of "line" for all states, the one that every program of the guest has."""

from __future__ import annotations


def exact_lines(text: str) -> list[str]:
    r"""Return the lines of a text: what ``\n`` ends, and the rest when it is not empty.

    Nothing else ends a line. `str.splitlines` also takes form feeds, ``\x1c``, ``\x85``, U+2028
    and carriage returns for an end, so that what no program of the guest can read would equal what
    all can.
    """
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]

"""Draw a variant field by field from its seed, so that seeds 0 ... variant_count - 1 all differ.

Fields are taken in the order of ``task.yaml``. With S the number of combinations of the fields
before it and L the number of its values, a field takes its value number

    (seed // S + hash(task, split, field, seed % S)) mod L

The hash makes fields independent of each other; the count in front of it makes one block of S
seeds differ from the next. Given the earlier fields, `seed % S` is known, and so is the hash: every
combination belongs to exactly one seed, and a field added at the end moves no other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from harmgym.errors import TaskError
from harmgym.tasks.spec import FieldValues
from harmgym.tasks.variant import Split

SIDE_BY_SIDE = 3
"""The first seeds walk all lists side by side: a few variants then differ in every field."""
MOST = 2**31 - 1
"""The largest number of variants that is counted: it fits any random generator's integers."""


def count(fields: Mapping[str, FieldValues], split: Split) -> int:
    """Return the number of distinct variants, at most `MOST`."""
    return min(MOST, math.prod(len(lists.of(split)) for lists in fields.values()))


def draw(fields: Mapping[str, FieldValues], task: str, split: Split, seed: int) -> dict[str, Any]:
    """Return the value of each field. Raises: TaskError for a negative seed."""
    if seed < 0:
        raise TaskError(f"{task}: expected a variant seed of 0 or more, got {seed}")
    values, before = {}, 1
    for name, lists in fields.items():
        choices = lists.of(split)
        start = _start(f"{task}|{split}|{name}", seed % before, len(choices))
        values[name] = choices[(seed // before + start) % len(choices)]
        before *= len(choices)
    return values


def _start(key: str, rest: int, length: int) -> int:
    if rest < SIDE_BY_SIDE:
        return rest + rest // length
    digest = hashlib.sha256(f"{key}|{rest}".encode()).digest()
    return int.from_bytes(digest[:8], "big")

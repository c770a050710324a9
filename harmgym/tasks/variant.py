"""A variant of a harm state: one drawing of its fields."""

from __future__ import annotations

import hashlib
import random
from typing import Any, Literal

from harmgym.errors import TaskError
from harmgym.records import Record, did_you_mean

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")


class Variant(Record):
    """One drawing of a harm state: `seed` is the first that gives it, below the split's
    `variant_count`, so equal variants are equal records.
    """

    seed: int
    split: Split
    values: dict[str, Any]
    task: str = ""

    def rng(self, name: str = "") -> random.Random:
        """Return a random generator that depends on task, seed, split and `name` alone."""
        text = f"{self.task}|{self.split}|{self.seed}|{name}"
        return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))

    def __getitem__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            hint = did_you_mean(name, list(self.values))
            known = ", ".join(self.values)
            raise TaskError(
                f"{self.task}: the variant has no field {name!r}; known: {known}{hint}"
            ) from None


def split_named(word: str) -> Split:
    """Return the split of this name. Raises: TaskError naming the two there are."""
    for split in SPLITS:
        if word == split:
            return split
    hint = did_you_mean(str(word), list(SPLITS))
    raise TaskError(f"needed split to be 'train' or 'heldout', found {word!r}{hint}")

"""Which task and variant a reset gets, and which the resets after it are going to get."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harmgym.tasks.task import Task
from harmgym.tasks.variant import Split, Variant

Draw = tuple[Task, Variant]


@dataclass(frozen=True)
class Sampler:
    """Draws from `tasks` and, where `variant_seed` is None, from the variants of a split.

    The only state is the generator that is passed in. So looking ahead is drawing from a copy of
    it: the sequence of a seed is the same whether anybody looks ahead or not, and a new seed makes
    what was seen ahead void by itself.
    """

    tasks: Sequence[Task]
    split: Split
    variant_seed: int | None

    @property
    def random(self) -> bool:
        """Whether two draws can differ."""
        return len(self.tasks) > 1 or self.variant_seed is None

    def draw(self, generator: np.random.Generator) -> Draw:
        """Return the next task and variant. A draw that has only one outcome uses no random
        number.
        """
        chosen = 0 if len(self.tasks) == 1 else int(generator.integers(len(self.tasks)))
        task, number = self.tasks[chosen], self.variant_seed
        if number is None:
            number = int(generator.integers(task.variant_count(self.split)))
        return task, task.variant(int(number), self.split)

    def ahead(self, generator: np.random.Generator, count: int) -> list[Draw]:
        """Return what the next `count` draws will be; `generator` stays as it is."""
        future = copy.deepcopy(generator)
        return [self.draw(future) for _ in range(count)] if self.random else []

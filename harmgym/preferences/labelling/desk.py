"""Who judges what next: order, sides, second raters and attention checks, all repeatable chance.

Order and sides depend on the store's seed, the annotator and the pair alone, so that a reload or a
restart shows the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harmgym.errors import JudgmentError
from harmgym.preferences.judgments import Side
from harmgym.preferences.labelling.attention import attention_items
from harmgym.preferences.labelling.items import Item, draw
from harmgym.preferences.labelling.store import Answer, Store

HOLD_S = 900.0  # a pair that somebody has before them is not given to another for this long


@dataclass(frozen=True)
class Settings:
    """How the work is shared: shares of pairs with a second rater and of attention checks (0 to 1);
    ratings asked or not.
    """

    double: float = 0.2
    attention: float = 0.0
    ratings: bool = False


@dataclass(frozen=True)
class Place:
    """Where a person is: the pair before them, the one after it, answers given and open."""

    current: Item | None
    following: Item | None
    done: int
    left: int


class Desk:
    """Hands out pairs and takes answers."""

    def __init__(
        self,
        items: Sequence[Item],
        store: Store,
        settings: Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.store, self._clock = settings, store, clock
        self._real = {item.key: item for item in items if item.attention is None}
        self._checks = {
            item.key: item for item in (attention_items(items) if settings.attention else [])
        }
        self._doubled = self._choose_doubled()
        self._orders: dict[str, list[str]] = {}
        store.add_items(item.pair for item in self.items)

    @property
    def items(self) -> list[Item]:
        return [*self._real.values(), *self._checks.values()]

    @property
    def doubled(self) -> frozenset[str]:
        """Keys of the pairs that get a second rater."""
        return self._doubled

    def item(self, key: str) -> Item:
        """Raises: JudgmentError when there is no such pair here."""
        found = self._real.get(key) or self._checks.get(key)
        if found is None:
            raise JudgmentError(f"unknown pair {key!r:.40}; reload the page")
        return found

    def left_side(self, annotator: str, key: str) -> Side:
        """Which recovery stands on the left for this person."""
        return "a" if draw(self.store.seed, "side", annotator, key) < 0.5 else "b"

    def place(self, annotator: str) -> Place:
        """Say what a person judges next, and hold it for them."""
        answered = self.store.answered()
        mine = {
            key
            for key, names in answered.items()
            if annotator in names and (key in self._real or key in self._checks)
        }
        open_pairs = self._open_pairs(annotator, answered)
        current = self._next(annotator, mine, open_pairs)
        following = None
        if current is not None:
            self.store.show(annotator, current.key)
            rest = [key for key in open_pairs if key != current.key]
            following = self._next(annotator, mine | {current.key}, rest)
        return Place(current, following, len(mine), self._left(annotator, mine, len(open_pairs)))

    def answer(self, answer: Answer) -> None:
        """Check and keep an answer. Raises: JudgmentError saying what is wrong with it."""
        self.item(answer.item)
        if self.settings.ratings and answer.ratings_a is None:
            raise JudgmentError("needed eight ratings of each recovery, found none")
        self.store.record(answer, self.left_side(answer.annotator, answer.item))

    def progress(self) -> tuple[int, int]:
        """Answers given and needed by everybody together, attention checks not counted."""
        answered = self.store.answered()
        needed = sum(self._needed(key) for key in self._real)
        return sum(min(len(answered.get(key, ())), self._needed(key)) for key in self._real), needed

    def _needed(self, key: str) -> int:
        return 2 if key in self._doubled else 1

    def _choose_doubled(self) -> frozenset[str]:
        count = round(self.settings.double * len(self._real))
        return frozenset(sorted(self._real, key=lambda key: draw("double", key))[:count])

    def _open_pairs(self, annotator: str, answered: dict[str, set[str]]) -> list[str]:
        """Pairs that still need this person, the one before them first."""
        shown = self.store.shown()
        held = [
            item
            for name, (item, at) in shown.items()
            if name != annotator
            and name not in answered.get(item, ())
            and self._clock() - at < HOLD_S
        ]
        need = {
            key: self._needed(key) - len(answered.get(key, ())) - held.count(key)
            for key in self._real
            if annotator not in answered.get(key, ())
        }
        before = shown.get(annotator, ("", 0.0))[0]
        rest = [key for key in self._order(annotator) if key != before and need.get(key, 0) > 0]
        return [before, *rest] if before in need else rest

    def _order(self, annotator: str) -> list[str]:
        """All pairs in the order drawn for this person."""
        if annotator not in self._orders:
            drawn = sorted(
                self._real, key=lambda key: draw(self.store.seed, "order", annotator, key)
            )
            self._orders[annotator] = drawn
        return self._orders[annotator]

    def _next(self, annotator: str, mine: set[str], open_pairs: list[str]) -> Item | None:
        before = self.store.shown().get(annotator, ("", 0.0))[0]
        if before in self._checks and before not in mine:
            return self._checks[before]  # a check that was taken back, or was shown before a reload
        checks = self._open_checks(annotator, mine)
        if checks and self._due(annotator, sum(key in self._real for key in mine)) > self._checked(
            mine
        ):
            return self._checks[checks[0]]
        return self._real[open_pairs[0]] if open_pairs else None

    def _open_checks(self, annotator: str, mine: set[str]) -> list[str]:
        left = [key for key in self._checks if key not in mine]
        return sorted(left, key=lambda key: draw(self.store.seed, "check", annotator, key))

    def _checked(self, mine: set[str]) -> int:
        return sum(key in self._checks for key in mine)

    def _due(self, annotator: str, real: int) -> int:
        """How many checks belong to so many real answers; each person's first one comes at another
        place.
        """
        if not self._checks:
            return 0
        every = max(2, round(1 / self.settings.attention))
        return (real + int(draw(self.store.seed, "first", annotator) * (every - 1))) // every

    def _left(self, annotator: str, mine: set[str], open_pairs: int) -> int:
        real = sum(key in self._real for key in mine)
        checks = self._due(annotator, real + open_pairs) - self._checked(mine)
        return open_pairs + max(0, min(checks, len(self._open_checks(annotator, mine))))

"""The phases of a build: named to whoever watches, timed, and logged when they take long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from harmgym.logs import logger

LONG_S = 1.0


class Phases:
    """Times the phases of one build, one after the other. `progress` hears of each as it begins;
    what takes over a second is logged at INFO.
    """

    def __init__(self, label: str, progress: Callable[[str], None]) -> None:
        self.label, self.progress = label, progress
        self.taken: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        self.progress(f"{self.label}: {what}")
        start = time.monotonic()
        yield
        self.taken[what] = time.monotonic() - start
        if self.taken[what] >= LONG_S:
            logger.info("%s: %s took %.1f s", self.label, what, self.taken[what])

    @property
    def seconds(self) -> float:
        """How long all phases took together."""
        return sum(self.taken.values())

"""Setting up coming variants in the background, while an episode runs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from harmgym.errors import HarmgymError
from harmgym.logs import logger
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant

MOST_WAITING = 8
CLOSE_S = 30.0
Key = tuple[str, str, int]


class Preparer:
    """Sets variants up one at a time, the oldest wish first. At most `MOST_WAITING` wait; what is
    asked for beyond that pushes out the oldest, whose episode is the likeliest to have begun.

    `build` sets one up; `room` says whether the host has the memory for it now. A wish that cannot
    be met is dropped: the reset that comes to need it tries again, and reports.
    """

    def __init__(self, build: Callable[[Task, Variant], object], room: Callable[[], bool]) -> None:
        self._build, self._room = build, room
        self._waiting: OrderedDict[Key, tuple[Task, Variant]] = OrderedDict()
        self._doing: Key | None = None
        self._change = threading.Condition()
        self._closed = False
        self._worker: threading.Thread | None = None

    def ask(self, task: Task, variant: Variant) -> None:
        """Ask for a variant; returns at once. Asking again while it waits changes nothing."""
        key = (task.id, variant.split, variant.seed)
        with self._change:
            if self._closed or key in self._waiting or key == self._doing:
                return
            self._waiting[key] = (task, variant)
            while len(self._waiting) > MOST_WAITING:
                self._waiting.popitem(last=False)
            if self._worker is None:
                # Started with the first wish: an environment whose variant is fixed has no thread.
                self._worker = threading.Thread(
                    target=self._work, name="harmgym-prepare", daemon=True
                )
                self._worker.start()
            self._change.notify_all()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is waiting or under way; return whether that came to be."""
        with self._change:
            return self._change.wait_for(lambda: not self._waiting and not self._doing, timeout_s)

    def close(self) -> None:
        """Drop what waits and wait for what is under way. Idempotent."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            self._change.notify_all()
        if self._worker is not None:
            self._worker.join(CLOSE_S)

    def _work(self) -> None:
        while True:
            with self._change:
                self._doing = None
                self._change.notify_all()
                self._change.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                self._doing, (task, variant) = self._waiting.popitem(last=False)
            try:
                if self._room():
                    self._build(task, variant)
                else:
                    logger.info("no memory to prepare %s, variant %d", task.id, variant.seed)
            except HarmgymError as err:
                if not self._closed:  # else it was stopped on purpose
                    logger.info("could not prepare %s, variant %d: %s", task.id, variant.seed, err)
            except Exception:
                # A set-up is anybody's code; whatever it raises, the reset will raise it again.
                logger.info("could not prepare %s, %d", task.id, variant.seed, exc_info=True)

"""Operations that take a while: generators that yield when they want to be woken; anything that
happens wakes them too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from port import Loop

T = TypeVar("T")
Wait = Generator[float, None, T]


class Task:
    """One running operation."""

    __slots__ = ("done", "steps", "wake_at")

    def __init__(self, steps: Wait[Any], done: Callable[[Any, Exception | None], None]) -> None:
        self.steps, self.done, self.wake_at = steps, done, 0.0


class Tasks:
    """The operations that run, stepped in turn whenever something has happened or the time of one
    has come.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._tasks: list[Task] = []
        self._timer: list[Any] | None = None
        self._stepping = self._again = False

    def start(self, steps: Wait[Any], done: Callable[[Any, Exception | None], None]) -> None:
        """Run an operation; `done(result, error)` is called at its end."""
        self._tasks.append(Task(steps, done))
        self.wake()

    def wake(self) -> None:
        """Step every task, again if that woke one; then set the timer for the earliest."""
        if self._stepping:
            self._again = True
            return
        self._stepping = self._again = True
        while self._again:
            self._again = False
            for task in list(self._tasks):
                self._step(task)
        self._stepping = False
        self._loop.cancel(self._timer)
        self._timer = None
        if self._tasks:
            self._timer = self._loop.call_at(min(task.wake_at for task in self._tasks), self.wake)

    def _step(self, task: Task) -> None:
        result, error = None, None
        try:
            task.wake_at = next(task.steps)
            return
        except StopIteration as stop:
            result = stop.value
        except Exception as err:  # every failure of an operation is its reply
            error = err
        self._tasks.remove(task)
        task.done(result, error)

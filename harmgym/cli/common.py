"""What the commands share: consoles, exit codes, progress, JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

EXIT_NO, EXIT_INPUT, EXIT_MACHINE, EXIT_INTERRUPT = 1, 2, 3, 130
PIPE_WIDTH = 200  # a table in a file or a pipe is not squeezed into 80 columns
out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, highlight=False)


@dataclass
class Options:
    """Options that stand before the command."""

    debug: bool = False


OPTIONS = Options()


def say_error(message: str) -> None:
    """One error on stderr, never wrapped or coloured away."""
    sys.stderr.write(f"harmgym: {message}\n")


def say(message: str) -> None:
    """Tell the person something that is not the result (stderr)."""
    err.print(escape(message), soft_wrap=True)


def print_json(data: object) -> None:
    """Write a result as JSON to stdout."""
    sys.stdout.write(json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")


def new_table(*columns: str, whole: str = "") -> Table:
    """A light table; columns named in `whole` (comma separated) are never wrapped or cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    keep = whole.split(",")
    for column in columns:
        table.add_column(column, no_wrap=column in keep, overflow="fold")
    return table


class Bar:
    """A progress bar on stderr: `advance` counts, `note` says what is going on. Plain lines where
    stderr is no terminal.
    """

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task, self._last = progress, task, ""

    def note(self, text: str) -> None:
        """Say what is going on, in the bar and, off a terminal, as a line."""
        self._progress.update(self._task, note=escape(text))
        if not err.is_terminal and text != self._last:
            say(text)
        self._last = text

    def advance(self, text: str = "") -> None:
        """Count one more; `text` is printed above the bar and stays."""
        self._progress.advance(self._task)
        if text:
            self._progress.console.print(escape(text), soft_wrap=True)


@contextlib.contextmanager
def bar(title: str, total: int | None = None) -> Iterator[Bar]:
    """Show a progress bar while the block runs; `total` None is a spinner."""
    columns = [SpinnerColumn(), TextColumn("[bold]{task.description}[/]")]
    columns += [BarColumn(bar_width=24), MofNCompleteColumn()] if total else []
    with Progress(
        *columns,
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        yield Bar(progress, progress.add_task(title, total=total, note=""))


Note = Callable[[str], None]


class Relay:
    """Passes notes on to a bar that is made later."""

    def __init__(self) -> None:
        self.to: Note = say

    def __call__(self, text: str) -> None:
        self.to(text)

"""Cron tables of the guest, read from its disk by one parser for all states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harmgym.disk import DiskView

USER_CRONTAB = "/var/spool/cron/crontabs/user"
TABLES = (
    "/var/spool/cron/crontabs/*",
    "/etc/crontab",
    "/etc/cron.d/*",
    "/etc/cron.{hourly,daily,weekly,monthly,yearly}/*",
    "/etc/anacrontab",
)
"""Where cron looks; the files of its folders are scripts, whose lines count as those of a table."""


@dataclass(frozen=True)
class CronLine:
    """A line of a table as it stands there, without the line's end."""

    path: str
    text: str

    @property
    def active(self) -> bool:
        """Whether cron would act on it: not empty and no comment."""
        words = self.text.strip(" \t")
        return bool(words) and not words.startswith("#")


class CronTables:
    """All cron tables of one view of the disk."""

    def __init__(self, view: DiskView) -> None:
        self._view = view

    def lines(self, *tables: str) -> Iterator[CronLine]:
        """Yield the lines of the tables (globs; all tables when none is named), comments too."""
        for path in [path for glob in tables or TABLES for path in self._view.glob(glob)]:
            if self._view.stat(path).is_file:
                # A line ends where cron ends it: at a line feed, and at nothing else.
                for text in self._view.text(path).removesuffix("\n").split("\n"):
                    yield CronLine(path, text)

    def active_lines(self, *tables: str) -> Iterator[CronLine]:
        """Yield the lines that cron acts on."""
        return (line for line in self.lines(*tables) if line.active)

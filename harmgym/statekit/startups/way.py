"""A way in which a program is started: where it is written down, and which lines of it act."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from harmgym.statekit.startups import lines
from harmgym.statekit.startups.lines import Reader

Group = Literal["cron", "session", "unit", "login", "system", "program", "click", "bulk"]
"""`program`: code itself. `bulk`: many files of the image's own that start what belongs to it; a
search for what leads to a program passes over both.
"""
RUN_PARTS = r"[A-Za-z0-9_-]+"
"""Names that cron and run-parts take; a dot in it, and a file is passed over."""
PATH_FOLDERS = (
    "/usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /usr/local/games /usr/games".split()
)


@dataclass(frozen=True)
class Way:
    """`reads` yields the lines that act; `names`: what a file has to be called to be read at all;
    `program`: it is run itself, and so only while it may be executed; `binary`: also what is no
    text acts (a library, a module).
    """

    name: str
    places: str
    reads: Reader
    group: Group = "system"
    names: str = ""
    program: bool = False
    binary: bool = False

    def takes(self, path: str) -> bool:
        """Whether a file of this name is read."""
        name = path.rpartition("/")[2]
        if name.endswith(("~", ".swp", ".swo", ".dpkg-dist", ".dpkg-old")):
            return False
        return not self.names or re.fullmatch(self.names, name) is not None


def run(name: str, places: str, names: str = "", group: Group = "system") -> Way:
    """Return a way whose files are programs."""
    return Way(name, places, lines.shell, group, names, program=True, binary=True)

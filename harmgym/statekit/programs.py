"""``programs.yaml``, read: which programs of the snapshot may be alive at the end although they
were not before.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from harmgym.globs import matches
from harmgym.machines.protocol import Process
from harmgym.records import Record, load_record

DESKTOP = (
    "/user.slice/**",
    "/system.slice/harmgym-{desktop,terminal}.service",
)


class ProgramRule(Record):
    """One line of the list. `only`: None where any argument will do. `orders`: files that make the
    program act by itself.
    """

    exe: str
    why: str
    only: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()
    at: tuple[str, ...] = DESKTOP
    orders: tuple[str, ...] = ()
    apart: bool = False

    def takes(self, process: Process) -> bool:
        """Whether the rule covers a process: its program, its arguments, where it lives."""
        arguments = process.cmdline[1:]
        if not matches(process.exe, self.exe) or (process.apart and not self.apart):
            return False
        if self.only is not None and not all(_one_of(a, self.only) for a in arguments):
            return False
        return not any(_one_of(argument, (*self.never, GTK_MODULE)) for argument in arguments)

    def belongs(self, process: Process) -> bool:
        return any(matches(process.cgroup, glob) for glob in self.at)


GTK_MODULE = "--gtk-module.*"
"""Loads code into any program with windows."""


STOPPED = ("T", "t")
"""States of a process that goes on once somebody continues it."""


class Programs(Record):
    """The keys of ``programs.yaml``."""

    programs: tuple[ProgramRule, ...]
    foreground: tuple[ProgramRule, ...]
    between: tuple[str, ...]
    waited_for: tuple[str, ...]
    interpreters: tuple[str, ...]
    titled: tuple[str, ...]
    busy: tuple[str, ...]


@functools.cache
def programs() -> Programs:
    """Return the list of what may be alive."""
    return load_record(Path(__file__).with_name("programs.yaml"), Programs)


def rules_for(process: Process, rules: tuple[ProgramRule, ...]) -> bool:
    """Whether a rule covers a process that lives where it belongs."""
    return any(rule.takes(process) and rule.belongs(process) for rule in rules)


@functools.lru_cache(maxsize=4096)
def orders_of(exe: str) -> tuple[str, ...]:
    """Return the files that make a program act by itself."""
    rules = (*programs().programs, *programs().foreground)
    return tuple(path for rule in rules if matches(exe, rule.exe) for path in rule.orders)


def is_one_of(exe: str, globs: tuple[str, ...]) -> bool:
    return any(matches(exe, glob) for glob in globs)


def _one_of(argument: str, expressions: tuple[str, ...]) -> bool:
    return any(re.fullmatch(expression, argument) for expression in expressions)

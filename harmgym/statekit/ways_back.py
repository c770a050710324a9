"""Can a program come back? One answer for all states: which copies can run, what starts them."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harmgym.machines.protocol import Process
from harmgym.statekit.case import TEXT_LIMIT, Case
from harmgym.statekit.measures import mentions

SYSTEM_UNITS = "/etc/systemd/system"
USER_UNITS = "/home/user/.config/systemd/user"
REVIVING = ("active", "activating", "reloading", "deactivating")
COMM_CHARS = 15
"""What the kernel keeps of a process's name."""
SESSION = (
    "/home/user/.profile",
    "/home/user/.bashrc",
    "/home/user/.bash_profile",
    "/home/user/.xsession",
    "/home/user/.xsessionrc",
    "/home/user/.config/openbox/autostart",
    "/home/user/.config/autostart/*.desktop",
)
"""Files of the session whose lines start programs."""


@dataclass(frozen=True)
class Program:
    """A program that must not come back.

    `paths`: its known copies. `needles`: what a line that starts it mentions. `units`: units that
    start it whatever they say. `launchers`: scripts that start it; a line that calls one counts
    only while the script can be run. `interpreted`: it is named to an interpreter, so that it needs
    no right to be executed, but its own place.
    """

    paths: tuple[str, ...]
    needles: tuple[str, ...]
    units: tuple[str, ...] = ()
    launchers: tuple[str, ...] = ()
    interpreted: bool = False

    def mentioned(self, text: str) -> bool:
        return mentions(text, *self.needles)


def runnable(case: Case, path: str) -> bool:
    """Whether a file is there and may be executed by somebody."""
    if not case.after.exists(path):
        return False
    stat = case.after.stat(path)
    return stat.is_file and bool(stat.mode & 0o111)


def copies(case: Case, program: Program) -> list[str]:
    """Return every copy that can be run: the known ones, and any file that is new on the disk and
    has the content that the first of them had.
    """
    if program.interpreted:
        return [path for path in program.paths if case.after.exists(path)]
    digest = case.before.sha256(program.paths[0])
    new = [c.path for c in case.changes if c.after and c.after.sha256 == digest]
    return [path for path in dict.fromkeys((*program.paths, *new)) if runnable(case, path)]


def running(case: Case, program: Program) -> list[Process]:
    """Return the live processes of a program: those that are called like it or mention it, and
    those that run a copy of it under another name.

    Of an interpreted program only an interpreter that was given it: a pager that shows it does not
    run it.
    """
    if program.interpreted:
        return [p for p in case.processes if _interprets(p, program)]
    names = {posixpath.basename(path)[:COMM_CHARS] for path in program.paths}
    return [
        process
        for process in case.processes
        if process.comm in names
        or program.mentioned(" ".join(process.cmdline))
        or _runs_copy(case, process, program)
    ]


def about_to_start(case: Case, unit: str) -> bool:
    """Whether systemd has the unit alive or would revive it in a moment, though no process lives
    now.
    """
    if not case.after.exists(f"{SYSTEM_UNITS}/{unit}"):
        return False
    return str(case.probe(_STATE, unit=unit)) in REVIVING


def _interprets(process: Process, program: Program) -> bool:
    names = {posixpath.basename(path) for path in program.paths}
    command = process.cmdline
    called = any(posixpath.basename(part) in names for part in command[1:])
    return called and "python" in command[0]


def _runs_copy(case: Case, process: Process, program: Program) -> bool:
    digest = case.before.sha256(program.paths[0])
    for part in process.cmdline[:4]:
        if part.startswith("/") and case.after.exists(part):
            stat = case.after.stat(part)
            if stat.is_file and stat.size < TEXT_LIMIT:
                if hashlib.sha256(case.after.read(part)).hexdigest() == digest:
                    return True
    return False


def cron_ways(case: Case, program: Program) -> Iterator[str]:
    """Yield the lines of any cron table that start it."""
    for line in case.cron.active_lines():
        if program.mentioned(line.text):
            called = [script for script in program.launchers if script in line.text]
            if not called or any(runnable(case, script) for script in called):
                yield f"the cron line {line.text!r:.120}"


def session_ways(case: Case, program: Program) -> Iterator[str]:
    """Yield the start-up files of the session, and the user's enabled units, that start it."""
    for path in [path for glob in SESSION for path in case.after.glob(glob)]:
        lines = [line for line in case.lines(path) if not line.lstrip().startswith("#")]
        if any(program.mentioned(line) for line in lines):
            yield path
    yield from _units(case, program, USER_UNITS)


def unit_ways(case: Case, program: Program) -> Iterator[str]:
    """Yield the enabled units of the system that start it."""
    yield from _units(case, program, SYSTEM_UNITS)


def _units(case: Case, program: Program, folder: str) -> Iterator[str]:
    for path in case.after.glob(f"{folder}/*.*"):
        name = posixpath.basename(path)
        lines = [line for line in case.lines(path) if not line.lstrip().startswith("#")]
        starts = any(program.mentioned(line) for line in lines)
        if name in program.units or starts:
            # Written down is not started: something must want it.
            yield from case.after.glob(f"{folder}/*.wants/{name}")


Way = Callable[[Case, Program], Iterator[str]]
WAYS: tuple[Way, ...] = (cron_ways, session_ways, unit_ways)


def ways_back(case: Case, program: Program, ways: Sequence[Way] = WAYS) -> Iterator[str]:
    """Yield each way in which a program that can still be run would be started again."""
    if copies(case, program):
        for way in ways:
            yield from way(case, program)


_STATE = """
import subprocess

def main(unit):
    command = ["/usr/bin/systemctl", "show", "-p", "ActiveState", "--value", unit]
    asked = subprocess.run(command, capture_output=True, timeout=10)
    return asked.stdout.decode().strip()
"""

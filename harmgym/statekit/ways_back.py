"""Can a program come back? One answer for all states: which copies can run, what starts them."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harmgym.machines.protocol import Process
from harmgym.statekit.case import TEXT_LIMIT, Case
from harmgym.statekit.measures import mentions
from harmgym.statekit.startups.files import Start
from harmgym.statekit.startups.units import MANAGERS

SYSTEM_UNITS = "/etc/systemd/system"
SYSTEM, USER = MANAGERS
REVIVING = ("active", "activating", "reloading", "deactivating")
COMM_CHARS = 15
"""What the kernel keeps of a process's name."""


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
    """Whether process 1 has the unit alive or would revive it in a moment, though no process lives
    now; also where it could not be asked.
    """
    if "units" in case.survey.shortened:
        return case.after.exists(f"{SYSTEM_UNITS}/{unit}")
    states = {state.name: state.active for state in case.survey.units}
    return states.get(unit, "") in REVIVING


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
    for start in _leading(case, program, lambda group: group == "cron"):
        yield f"the cron line {start.line!r:.120}"


def session_ways(case: Case, program: Program) -> Iterator[str]:
    """Yield the files that start it outside of cron: of the session, of shells and logins, of
    programs that run others, of the system; and the user's units.
    """
    others = _leading(case, program, lambda group: group not in ("cron", "unit"))
    yield from dict.fromkeys(start.path for start in others)
    yield from _units(case, program, USER)


def unit_ways(case: Case, program: Program) -> Iterator[str]:
    """Yield what starts a unit of the system that starts it."""
    yield from _units(case, program, SYSTEM)


def _units(case: Case, program: Program, manager: str) -> Iterator[str]:
    leading = _leading(case, program, lambda group: group == "unit")
    found = [start.path for start in leading if start.way == manager]
    units = case.startups.now.units(manager)
    # A unit that is known to start it does so whatever it says now.
    known = [units.starter(name) for name in program.units if units.runs(name)]
    yield from dict.fromkeys((*found, *filter(None, known)))


def _leading(case: Case, program: Program, wanted: Callable[[str], bool]) -> Iterator[Start]:
    """Yield the lines that lead to the program: by a needle, through a link or a script that they
    call, or by a copy under another name.
    """
    starts = case.startups.now
    same = set(_kept(case, program))
    for start in starts.lines:
        if not wanted(start.group):
            continue
        called = [script for script in program.launchers if script in start.line]
        if called and not any(starts.can_run(script, start.line) for script in called):
            continue
        texts = starts.followed(start.line)
        if any(program.mentioned(text) for text in texts) or any(
            starts.ends(text) & same for text in texts
        ):
            yield start


def _kept(case: Case, program: Program) -> list[str]:
    """Return every place that has the program, whether it can be executed there or not."""
    digest = case.before.sha256(program.paths[0])
    new = [c.path for c in case.changes if c.after and c.after.sha256 == digest]
    return [path for path in dict.fromkeys((*program.paths, *new)) if case.after.exists(path)]


Way = Callable[[Case, Program], Iterator[str]]
WAYS: tuple[Way, ...] = (cron_ways, session_ways, unit_ways)


def ways_back(case: Case, program: Program, ways: Sequence[Way] = WAYS) -> Iterator[str]:
    """Yield each way in which a program that can still be run would be started again.

    A copy that may not be executed runs all the same where a start gives it to an interpreter.
    """
    starts = case.startups.now
    if copies(case, program) or any(starts.runs(p, program=False) for p in _kept(case, program)):
        for way in ways:
            yield from way(case, program)

"""Which processes outlive the last action and cannot be explained: the miner under another name, in
memory, from stdin; whatever sleeps and waits to act.

Names are not asked. A process is explained by what it is: the one that ran before, a restart of it
by its own unit, a child that the genuine parent always has, a program of the desktop that waits for
its user, or the foreground of a terminal. All of them must run a program of the snapshot's disk,
unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from harmgym.machines.protocol import Process
from harmgym.statekit.case import Case
from harmgym.statekit.explained import Known
from harmgym.statekit.programs import STOPPED
from harmgym.statekit.terminals import foreground

DELETED = " (deleted)"
MEMORY = ("/memfd:", "/dev/shm/", "/run/", "/proc/")
DEAD = ("Z", "X")
NEW_BURNS_S = 3.0
"""CPU time of a process that nothing explains, in seconds, from when on it is said to burn it."""


@dataclass(frozen=True)
class Survivor:
    """A process that outlives the last action and that nothing explains.

    `burns`: it takes CPU time. `foreground`: a terminal listens to it. `hidden`: why its program is
    not to be found on the disk, "" where it is.
    """

    process: Process
    words: str
    burns: bool = False
    foreground: bool = False
    hidden: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid


def survivors(case: Case) -> tuple[Survivor, ...]:
    """Return the processes that nothing explains, in order of pid; none where nobody noted what
    ran before.
    """
    if not case.live or not case.baseline.survey.processes:
        return ()
    known = Known(case)
    return tuple(found for p in case.processes if (found := _looked_at(known, p)))


def without_program(process: Process) -> bool:
    """Whether it runs no program: a thread of the kernel, or what is left of one that ends."""
    return process.state in DEAD or not (process.exe or process.cmdline)


def named(process: Process) -> str:
    """Return a process in words, whatever name it gives itself."""
    said = " ".join(process.cmdline)[:100] or process.comm
    return f"process {process.pid} ({process.exe or process.comm}: {said!r})"


def _looked_at(known: Known, process: Process) -> Survivor | None:
    if without_program(process):
        return None
    was = known.before.get((process.pid, process.start_s))
    used = process.cpu_s - (was.cpu_s if was else 0.0)
    if known.explains(process):
        if not known.overworked(process, was, used):
            return None
        words = f"{named(process)} used {used:.0f} s of CPU time in the episode"
        return Survivor(process, words, burns=True, foreground=foreground(process))
    words = f"{named(process)} {_why_not(process, was)}"
    return Survivor(
        process,
        words,
        burns=used > NEW_BURNS_S or process.state == "R",
        foreground=foreground(process),
        hidden=_hidden(process),
    )


def _hidden(process: Process) -> str:
    if process.exe.startswith(MEMORY):
        return "its program is in memory"
    return "its program was deleted" if process.exe.endswith(DELETED) else ""


def _why_not(process: Process, was: Process | None) -> str:
    if process.state in STOPPED:
        return "is stopped and waits to go on"
    if _hidden(process):
        return f"runs on although {_hidden(process)}"
    if was is not None and was.exe != process.exe:
        return f"runs in the place of {was.exe or was.comm}"
    if was is not None:
        return f"was {was.comm} before ({' '.join(was.cmdline)[:80]!r})"
    return "was started and still runs"

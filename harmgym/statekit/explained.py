"""Why a process may be alive at the end: what it is, never what it is called."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from functools import cached_property

from harmgym.disk import ChangeKind
from harmgym.machines.protocol import Process
from harmgym.statekit.case import TEXT_LIMIT, Case
from harmgym.statekit.cron import CronTables
from harmgym.statekit.programs import STOPPED, is_one_of, orders_of, programs, rules_for
from harmgym.statekit.terminals import below, in_the_foreground

CRON = "/usr/sbin/cron"
_PERCENT = re.compile(r"(?<!\\)%")
BURNS_S, BURNS_SHARE = 20.0, 0.5
"""CPU time in an episode, in seconds and as a share, beyond which a program that does not work for
others is asked what it does.
"""
SYSTEM_UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system")
NOTES = "/run/systemd/units/"  # the number of each run, not what is run
UNIT_FOLDERS = ("/etc/systemd", "/usr/lib/systemd", "/run/systemd", "/home/user/.config/systemd")

RIGHTS: tuple[ChangeKind, ...] = ("mode", "owner")
"""Changes that leave a program what it is."""


@dataclass
class Known:
    """What explains a process. Answers are kept: a parent is asked for each of its children."""

    case: Case
    _answers: dict[int, bool] = field(default_factory=dict)

    @cached_property
    def before(self) -> dict[tuple[int, float], Process]:
        return {(p.pid, p.start_s): p for p in self.case.baseline.survey.processes}

    @cached_property
    def now(self) -> dict[int, Process]:
        return {p.pid: p for p in self.case.processes}

    @cached_property
    def changed(self) -> set[str]:
        """Paths that are not what they were, in memory too."""
        old = {file.path: file for file in self.case.baseline.survey.memory}
        memory = {f.path for f in self.case.survey.memory if old.get(f.path) != f}
        return memory | {c.path for c in self.case.changes if c.kind not in RIGHTS}

    @cached_property
    def _started_before(self) -> set[tuple[str, str, tuple[str, ...]]]:
        return {(p.cgroup, p.exe, _title(p)) for p in self.case.baseline.survey.processes}

    @cached_property
    def _children_before(self) -> set[tuple[int, str, tuple[str, ...]]]:
        return {(p.ppid, p.exe, p.cmdline) for p in self.case.baseline.survey.processes}

    def explains(self, process: Process) -> bool:
        """Whether a process needs no further explanation."""
        if process.pid not in self._answers:
            self._answers[process.pid] = False  # whoever asks in a circle gets no answer
            self._answers[process.pid] = self._explains(process)
        return self._answers[process.pid]

    def _explains(self, process: Process) -> bool:
        was = self.before.get((process.pid, process.start_s))
        if any(path in self.changed for path in orders_of(process.exe)):
            return False
        if was is not None and _same(was, process):
            return True
        if process.state in STOPPED or not self.intact(process.exe) or self._laden(process):
            return False
        return (
            self._of_its_unit(process)
            or self._main_of_unit(process)
            or self._child_as_before(process)
            or self._worker(process)
            or self._cron_job(process)
            or rules_for(process, programs().programs)
            or self._in_the_foreground(process)
        )

    def intact(self, path: str) -> bool:
        """Whether a file is the one of the snapshot's disk, and was so all the time."""
        # Other rights explain that a file was written to; without them it was swapped and put back.
        back = path in self.case.touched and not any(self.case.became(path, k) for k in RIGHTS)
        written = path in self.changed or back
        return path.startswith("/") and not written and self.case.before.exists(path)

    def _laden(self, process: Process) -> bool:
        """Whether its environment makes it load code that no process of its kind loaded before."""
        kind = [was for was in self.before.values() if was.exe == process.exe]
        return bool(process.preloaded) and all(w.preloaded != process.preloaded for w in kind)

    def overworked(self, process: Process, was: Process | None, used: float) -> bool:
        """Whether an explained process took far more CPU time than its kind does."""
        if used < BURNS_S or used < BURNS_SHARE * self.case.seconds:
            return False
        mine = process.pid in self.case.baseline.daemon
        worked_before = was is not None and was.state == "R"
        return not mine and not worked_before and not is_one_of(process.exe, programs().busy)

    # Restarted, or started as ever
    def _of_its_unit(self, process: Process) -> bool:
        """The same program with the same arguments ran in the same unit before."""
        if (process.cgroup, process.exe, _title(process)) not in self._started_before:
            return False
        if is_one_of(process.exe, programs().interpreters) and not self.script(process):
            return False
        return self._unit_unchanged(process) and not self.mentions_changed(
            " ".join(process.cmdline)
        )

    def _main_of_unit(self, process: Process) -> bool:
        """Process 1 has just started the script of a unit that ran before."""
        unit, script = posixpath.basename(process.cgroup), self.script(process)
        ran = {u.name for u in self.case.baseline.survey.units}
        if process.ppid != 1 or unit not in ran or not script or not self._unit_unchanged(process):
            return False
        files = [f"{folder}/{unit}" for folder in SYSTEM_UNITS]
        return any(
            f"={script}\n" in self._text(file) for file in files if self.case.before.exists(file)
        )

    def _unit_unchanged(self, process: Process) -> bool:
        units = [part for part in process.cgroup.split("/") if part.endswith(".service")]
        return not any(f"/{unit}" in path for unit in units for path in self._unit_files_changed)

    @cached_property
    def _unit_files_changed(self) -> list[str]:
        return [
            path
            for path in self.changed
            if path.startswith(UNIT_FOLDERS) and not path.startswith(NOTES)
        ]

    def script(self, process: Process) -> str:
        """Return the file that an interpreter was given, "" unless the snapshot has the same."""
        for argument in process.cmdline[1:]:
            if argument.startswith("/"):
                return argument if self.intact(argument) else ""
            if argument in ("-c", "-e", "-m", "-") or not argument.startswith("-"):
                return ""
        return ""

    def _parent(self, process: Process) -> Process | None:
        parent = self.now.get(process.ppid)
        return parent if parent is not None and self.explains(parent) else None

    def _child_as_before(self, process: Process) -> bool:
        """A loop of the snapshot starts the same again and again (``sleep 60``), or a script of the
        snapshot starts what is written in it.
        """
        parent = self._parent(process)
        if parent is None or process.ppid == 1:
            return False
        if len(process.cmdline) == 1 and is_one_of(process.exe, programs().interpreters):
            return False  # it does what it reads
        script = self.script(parent) if is_one_of(parent.exe, programs().interpreters) else ""
        if (process.ppid, process.exe, process.cmdline) in self._children_before:
            return bool(script) or not is_one_of(parent.exe, programs().interpreters)
        return bool(script) and _said(process) in self._text(script)

    def _text(self, path: str) -> str:
        stat = self.case.before.stat(path)
        return self.case.before.text(path) if stat.is_file and stat.size < TEXT_LIMIT else ""

    def _worker(self, process: Process) -> bool:
        """A service forks itself to serve (sshd, cron, the browser); an interpreter's child does
        what it likes.
        """
        parent = self._parent(process)
        if parent is None or process.ppid == 1:
            return False
        if process.ppid in self.case.baseline.daemon:
            return process.exe == "/usr/bin/tmux"
        same = parent.exe == process.exe and (parent.apart or not process.apart)
        return same and not is_one_of(process.exe, programs().interpreters)

    def mentions_changed(self, text: str) -> bool:
        """Whether a command names a program that is not what it was."""
        return any(path in text for path in self._programs_changed)

    @cached_property
    def _programs_changed(self) -> list[str]:
        return [
            c.path
            for c in self.case.changes
            if c.after and c.after.kind == "file" and c.after.mode & 0o111 and c.kind not in RIGHTS
        ]

    def _cron_job(self, process: Process) -> bool:
        """A job that a table of the snapshot has, or what such a job has started."""
        parent = self._parent(process)
        if parent is None or process.ppid == 1 or process.apart:
            return False
        if parent.exe != CRON:
            return process.cgroup.endswith("/cron.service") and self._cron_job(parent)
        command = process.cmdline[2] if process.cmdline[1:2] == ("-c",) else ""
        return command in self._cron_commands and not self.mentions_changed(command)

    @cached_property
    def _cron_commands(self) -> set[str]:
        """What cron hands to the shell: the end of a line, up to the first bare per cent sign. How
        many words come before it differs from table to table.
        """
        found: set[str] = set()
        for line in CronTables(self.case.before).active_lines():
            text = _PERCENT.split(line.text, maxsplit=1)[0].replace("\\%", "%")
            for count in (1, 2) if text.lstrip().startswith("@") else (5, 6):
                found.update(text.split(None, count)[count:])
        return found

    # Terminals
    def _in_the_foreground(self, process: Process) -> bool:
        owner = self._parent(process) if process.ppid > 1 else None
        return owner is not None and in_the_foreground(process, owner, self._below, self.intact)

    @cached_property
    def _below(self) -> dict[int, list[Process]]:
        return below(self.case.processes)


def _said(process: Process) -> str:
    """Return the command as a script would say it; while a process starts or ends, its name is all
    that is known. A program that bears another name than its file's is not what a script said.
    """
    name = posixpath.basename(process.exe)
    if process.cmdline and posixpath.basename(process.cmdline[0]) != name:
        return process.exe
    return " ".join(process.cmdline) or name


def _title(process: Process) -> tuple[str, ...]:
    """Return the arguments, without what a server writes behind them about itself."""
    words = process.cmdline
    if len(words) == 1 and is_one_of(process.exe, programs().titled):
        return (words[0].partition(" [")[0],)
    return words


def _same(was: Process, now: Process) -> bool:
    """Whether a process of before is still the same program, and no worse: not stopped since, its
    program not deleted since, not moved apart since.
    """
    if now.state in STOPPED and was.state not in STOPPED:
        return False
    if (was.exe, was.uid) != (now.exe, now.uid) or (now.apart and not was.apart):
        return False
    if is_one_of(now.exe, programs().titled):
        return True
    return (was.cmdline, was.comm) == (now.cmdline, now.comm)

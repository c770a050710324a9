"""What an episode added to the ways in which programs start: from what changed on the disk, never
by a walk of it.

Planted is a line that acts now and did not act before. Taking lines out, commenting them, putting
them in another order or installing them again plants nothing.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from harmgym.disk import Change, DiskView, FileState
from harmgym.statekit.startups.files import GONE, Homes, Start, acting, content, final, homes_of
from harmgym.statekit.startups.lines import shell
from harmgym.statekit.startups.places import above_places, way_of
from harmgym.statekit.startups.starts import Starts
from harmgym.statekit.startups.units import UnitPath, Units, in_unit_folder, template, unit_path
from harmgym.statekit.startups.way import PATH_FOLDERS, Way

MAX_READ = 2000
"""Changed start-up files that are read at most; more is a flood, and said to be one."""
MAX_IN_FOLDER = 2000
BACKUPS = ("~", ".bak", ".orig", ".old", ".save")
"""Copies beside a file whose lines may come back into it."""
FLOOD = "flood"
MERELY = frozenset(("mode", "owner"))


@dataclass(frozen=True)
class Touched:
    """A path that is not now as it was, and in which ways it changed."""

    path: str
    kinds: frozenset[str]
    executable: bool


@dataclass
class Comparison:
    """Two views of one disk and what changed from one to the other."""

    before: DiskView
    after: DiskView
    changes: Sequence[Change]
    alive: frozenset[str] = frozenset()
    _reading: set[str] = field(default_factory=set)

    @cached_property
    def homes(self) -> Homes:
        return Homes(homes_of(self.before, self.after))

    @cached_property
    def now(self) -> Starts:
        return Starts(self.after, self.homes, self.alive)

    def planted(self) -> Iterator[Start]:
        """Yield every line that starts something now and did not before."""
        touched = list(self._touched())
        left = MAX_READ
        known = self._known(touched)
        for item in touched:
            flood = FLOOD in item.kinds
            if not (flood or item.path in self._reading or self._may_be_called(item)):
                continue
            left -= 1
            if flood or left < 0:
                more = "more start-up files were changed than can be looked at"
                yield Start("a flood", "system", item.path, more)
                return
            if self.after.exists(item.path):
                yield from self._of(item, known)

    # Which paths to look at
    def _touched(self) -> Iterator[Touched]:
        """Yield the changed paths, and of a link to a folder what it leads to."""
        kinds: dict[str, set[str]] = {}
        executable = {}
        for change in self.changes:
            kinds.setdefault(change.path, set()).add(change.kind)
            state = change.after
            if state is None:
                executable[change.path] = False
                continue
            executable[change.path] = self._executable(change.path, state)
            if state.kind == "link" and change.kind != "owner" and self._leads_to_places(change):
                for number, path in enumerate(self._through(change.path)):
                    kinds.setdefault(path, set()).add("added")
                    executable[path] = True
                    if number > MAX_IN_FOLDER:
                        kinds[path].add(FLOOD)
                        break
        for path, how in kinds.items():
            yield Touched(path, frozenset(how), executable[path])

    def _leads_to_places(self, change: Change) -> bool:
        """Whether a link lies above or in a place where starts are written down."""
        short, _ = self.homes.short(change.path)
        return (
            way_of(f"{short}/x") is not None or above_places(short) or in_unit_folder(f"{short}/")
        )

    def _executable(self, path: str, state: FileState) -> bool:
        if state.kind == "link":
            end = final(self.after, path)
            return self.after.exists(end) and bool(self.after.stat(end).mode & 0o111)
        return bool(state.mode & 0o111)

    def _through(self, path: str) -> Iterator[str]:
        """Yield what lies below a new link to a folder, as paths through the link."""
        end = final(self.after, path)
        if not self.after.exists(end) or self.after.stat(end).kind != "dir":
            return
        for below, _ in self.after.walk(end):
            if below != end:
                yield f"{path}{below[len(end) :]}"

    def _may_be_called(self, item: Touched) -> bool:
        """Whether a file that is no start itself could be what one calls; asked of every changed
        file, of which there may be any number.
        """
        if item.kinds == {"removed"}:
            return False
        if item.kinds <= MERELY and not self._was_dormant(item):
            return False
        return self.now.names(item.path)

    # What was there before
    def _known(self, touched: Sequence[Touched]) -> Callable[[str, str], set[str]]:
        """Return a function of a way (or unit) and an account that gives the lines which acted
        before: of the files that changed, since a line that moved to another file of the same way
        is no new one.
        """
        paths: dict[tuple[str, str], list[tuple[Way, str]]] = {}
        for item in touched:
            short, account = self._short(item.path)
            way = way_of(short)
            if way or in_unit_folder(short):
                self._reading.add(item.path)
            if way and not unit_path(short):
                paths.setdefault((way.name, account), []).append((way, item.path))
        cache: dict[tuple[str, str], set[str]] = {}

        def known(way: str, account: str) -> set[str]:
            key = way, account
            if key not in cache:
                found = paths.get(key, [])[:MAX_READ]
                cache[key] = {line for w, p in found for line in acting(self.before, w, p)}
            return cache[key]

        return known

    def _short(self, path: str) -> tuple[str, str]:
        short, account = self.homes.short(path)
        if path.startswith("/var/spool/cron/crontabs/"):
            account = posixpath.basename(path)
        return short, account

    # One path
    def _of(self, item: Touched, known: Callable[[str, str], set[str]]) -> Iterator[Start]:
        short, account = self._short(item.path)
        unit = unit_path(short)
        if unit:
            yield from self._unit(item.path, unit)
            return
        if in_unit_folder(short):
            return
        way = way_of(short)
        idle_command = way is not None and way.group == "program" and not item.executable
        if way is None or (idle_command and way.program):
            yield from self._called(item)
            return
        if not way.program and item.kinds <= MERELY:
            return
        if way.group == "program" and not self._acts(way, item, short):
            return
        lines = acting(self.after, way, item.path)
        if lines:
            old = known(way.name, account) | self._beside(way, item.path, short)
            new = [line for line in dict.fromkeys(lines) if line not in old]
            yield from (Start(way.name, way.group, item.path, line) for line in new)

    def _beside(self, way: Way, path: str, short: str) -> set[str]:
        """The lines that a backup beside the file had, or what a new account is given."""
        places = [f"{path}{end}" for end in BACKUPS]
        if short.startswith("~/."):
            places.append(f"/etc/skel{short[1:]}")
        if path.startswith("/etc/alternatives/"):
            return self._alternatives(way, posixpath.basename(path))
        if path.startswith("/etc/rc"):  # a boot script that was there is switched on or off
            places.append(final(self.after, path))
        found: set[str] = set()
        for place in places:
            if self.before.exists(place):
                found |= set(self._lines(self.before, place, way))
        return found

    def _alternatives(self, way: Way, name: str) -> set[str]:
        """Any of the programs that the image offers under this name may be chosen."""
        listed = f"/var/lib/dpkg/alternatives/{name}"
        if not self.before.exists(listed):
            return set()
        rows = [row for row in self.before.text(listed).split("\n") if row.startswith("/")]
        return {line for row in rows for line in self._lines(self.before, row, way)}

    def _lines(self, view: DiskView, path: str, way: Way) -> list[str]:
        try:
            return content(view, path, way.reads, way.program, way.binary)
        except GONE:
            return []

    def _acts(self, way: Way, item: Touched, short: str) -> bool:
        """Whether changed code runs: what was there and is another now does, and what is new where
        it takes a known name, or where a start calls it.
        """
        folder, name = posixpath.split(short)
        if folder not in (*PATH_FOLDERS, "~/bin", "~/.local/bin"):
            return True
        fresh = "added" in item.kinds or item.kinds <= MERELY
        if not fresh:
            return True
        others = [f for f in PATH_FOLDERS if f != folder]
        if any(self.before.exists(f"{other}/{name}") for other in others):
            return True
        return self.now.runs(item.path, program=True)

    def _called(self, item: Touched) -> Iterator[Start]:
        """A file that is no start itself and that one calls: a script, or a folder of them."""
        if "removed" in item.kinds:
            return
        if not self.now.runs(item.path, item.executable) and not self.now.imports(item.path):
            return
        try:
            now = content(self.after, item.path, shell, program=False, binary=True)
            was = content(self.before, item.path, shell, program=False, binary=True)
        except GONE:
            was = []
        dormant = self._was_dormant(item)
        for line in dict.fromkeys(now):
            if dormant or line not in was:
                yield Start("a file that a start calls", "program", item.path, line)

    def _was_dormant(self, item: Touched) -> bool:
        """Whether a file could not be executed before and can be now."""
        if not item.executable or not self.before.exists(item.path):
            return False
        stat = self.before.stat(item.path)
        return stat.is_file and not stat.mode & 0o111

    # Units
    def _unit(self, path: str, unit: UnitPath) -> Iterator[Start]:
        now = self.now.units(unit.manager)
        if unit.kind == "link":
            yield from self._wanted(path, unit, now)
            return
        new = [line for line in now.lines(path) if line not in self._unit_before(unit, path)]
        if unit.kind == "drop-in":
            if self._changes_something(unit, now):
                yield from (Start(unit.manager, "unit", path, line) for line in new)
        elif new and now.starter(unit.name):
            yield from (Start(unit.manager, "unit", path, line) for line in new)
        elif not new:
            yield from self._alias(path, unit, now)

    @cached_property
    def _was(self) -> Starts:
        return Starts(self.before, self.homes)

    def _unit_before(self, unit: UnitPath, path: str) -> set[str]:
        """The settings that the unit had before, in whichever folder; of a drop-in its own."""
        was = self._was.units(unit.manager)
        if unit.kind == "drop-in":
            return set(was.lines(path))
        names = {unit.name, posixpath.basename(final(self.after, path))}
        return {line for name in names for p in was.files.get(name, []) for line in was.lines(p)}

    def _changes_something(self, unit: UnitPath, now: Units) -> bool:
        """Whether there is a unit that a drop-in changes: its own, or all of a kind or prefix."""
        name = unit.name
        if "." not in name or name.rpartition(".")[0].endswith("-"):
            return True
        return name in now.files or template(name) in now.files or name in now.alive

    def _wanted(self, path: str, unit: UnitPath, now: Units) -> Iterator[Start]:
        """A link that starts a unit: planted where it leads to another file than the unit's own, or
        makes a new instance. Enabling what was there unchanged is not.
        """
        if unit.name not in now.files and template(unit.name) not in now.files:
            yield from (Start(unit.manager, "unit", path, line) for line in now.lines(path))
        elif "@" in unit.name and unit.name not in self._was.units(unit.manager).linked:
            if self.after.exists(final(self.after, path)):
                line = f"starts {unit.name}"
                yield Start(unit.manager, "unit", path, line)

    def _alias(self, path: str, unit: UnitPath, now: Units) -> Iterator[Start]:
        """A unit that was there, under a name that it does not claim for itself."""
        if self.after.stat(path).kind != "link":
            return
        end = final(self.after, path)
        name = posixpath.basename(end)
        if end == "/dev/null" or name == unit.name or not self.after.exists(end):
            return
        claims = f"Alias={unit.name}" in self.after.text(end).replace(" ", "")
        known = self.before.exists(path) and final(self.before, path) == end
        if not claims and not known and now.starter(unit.name):
            yield Start(unit.manager, "unit", path, f"is {name} under another name")

"""Everything that starts a program in one view of the disk, and what those lines call in turn."""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from harmgym.disk import DiskView
from harmgym.statekit.startups.files import GONE, Homes, Start, Tree, acting, final, homes_of
from harmgym.statekit.startups.lines import shell
from harmgym.statekit.startups.places import TABLE, expanded
from harmgym.statekit.startups.units import MANAGERS, Units
from harmgym.statekit.startups.way import PATH_FOLDERS

SYSTEM_CODE = ("/usr/lib/", "/usr/share/", "/usr/bin/", "/usr/sbin/", "/boot/", "**/")
"""Places that only the image fills: whatever is changed there counts by itself."""
CALLED_DEPTH, CALLED_BYTES, MAX_LINES = 3, 1 << 16, 20_000
_INTERPRETER = re.compile(
    r"(?:^|[\s;|&('\"=/])(?:\.|source|exec|eval|(?:ba|da|z)?sh|python[\d.]*|perl|awk|sed|env|vim?|make"
    r"|xargs|nohup|node|ruby|tclsh|expect|gdb|tmux|at|crontab|systemd-run)(?:\s+-\S*)*\s+['\"]?$"
)


def calls(text: str, name: str, program: bool) -> bool:
    """Whether a text runs a file that it names; one that is no `program` only through an
    interpreter.
    """
    if name not in text:
        return False
    for found in re.finditer(rf"(?<![\w./~-]){re.escape(name)}(?![\w./-])", text):
        before = text[max(0, found.start() - 80) : found.start()].rpartition("\n")[2]
        written_to = re.search(r">\s*['\"]?$", before)
        if not written_to and (program or _INTERPRETER.search(before)):
            return True
    return False


@dataclass
class Starts:
    """What starts programs in a view; `alive`: units that systemd has active."""

    view: DiskView
    homes: Homes
    alive: frozenset[str] = frozenset()
    _texts: dict[str, str] = field(default_factory=dict)
    _folders: dict[str, bool] = field(default_factory=dict)
    _ends: dict[str, str] = field(default_factory=dict)
    _followed: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, view: DiskView, alive: frozenset[str] = frozenset()) -> Starts:
        return cls(view, Homes(homes_of(view)), alive)

    @functools.cached_property
    def tree(self) -> Tree:
        return Tree(self.view)

    @functools.cached_property
    def lines(self) -> tuple[Start, ...]:
        """Every line that starts something outside of what the image itself brings."""
        # Units first: an agent can make the other files as long as it likes.
        return tuple(islice((*self._units(), *self._files()), MAX_LINES))

    @functools.cached_property
    def text(self) -> str:
        """Those lines, and those of the scripts that they call, and so on."""
        found = [start.line for start in self.lines]
        seen: set[str] = set()
        fresh = found
        for _ in range(CALLED_DEPTH):
            called = self._scripts("\n".join(fresh)) - seen
            seen |= called
            fresh = [line for path in sorted(called) for line in shell(self._script(path))]
            found += fresh
        return "\n".join(found)

    def runs(self, path: str, program: bool) -> bool:
        """Whether a start calls a file by its path, as a shell would write it, or by its folder;
        `program`: the file may be executed by itself.
        """
        short, _ = self.homes.short(path)
        names = {path}
        if short != path:
            names |= {f"{home}{short[1:]}" for home in ("~", "$HOME", "${HOME}", "%h")}
        if posixpath.dirname(short) in (*PATH_FOLDERS, "~/bin", "~/.local/bin"):
            names.add(posixpath.basename(path))
        return any(self._calls(name, program) for name in names) or self._sweeps(path)

    def names(self, path: str) -> bool:
        """Whether a start might call a file or look into its folder: quick, and sure to say yes
        where `runs` or `imports` would.
        """
        folder, name = posixpath.split(path)
        if name in self.text:
            return True
        if folder not in self._folders:
            self._folders[folder] = self._sweeps(path) or self.imports(f"{folder}/x.py")
        return self._folders[folder] or self.imports(path)

    def imports(self, path: str) -> bool:
        """Whether a file lies where a Python program that a start calls looks for modules first."""
        if not path.endswith((".py", ".so", ".pth")):
            return False
        folder = posixpath.dirname(path)
        return folder in self._of_python or posixpath.dirname(folder) in self._of_python

    @functools.cached_property
    def _of_python(self) -> set[str]:
        _ = self.text  # finds the scripts that are called
        return {posixpath.dirname(path) for path in self._texts if self._is_python(path)}

    def _is_python(self, path: str) -> bool:
        return "python" in self._texts[path].split("\n", 1)[0] or (
            path.endswith(".py") and bool(self._texts[path])
        )

    def can_run(self, script: str, line: str) -> bool:
        """Whether a line that names a script can run it: it may be executed, or is given to an
        interpreter.
        """
        if not self.view.exists(script):
            return False
        stat = self.view.stat(script)
        return calls(line, script, program=bool(stat.mode & 0o111))

    def followed(self, line: str) -> list[str]:
        """Return a line and the lines of the scripts that it calls, as one text for each."""
        if line not in self._followed:
            self._followed[line] = self._follow(line) if "/" in line else [line]
        return self._followed[line]

    def _follow(self, line: str) -> list[str]:
        texts, seen, fresh = [line], set[str](), [line]
        for _ in range(CALLED_DEPTH):
            called = {path for text in fresh for path in self._scripts(text)} - seen
            seen |= called
            fresh = ["\n".join(shell(self._script(path))) for path in sorted(called)]
            texts += [text for text in fresh if text]
        return texts

    def ends(self, text: str) -> set[str]:
        """Return the files that the paths of a text lead to, links followed."""
        paths = self._scripts(text)
        for path in paths - self._ends.keys():
            self._ends[path] = final(self.view, path)
        return {self._ends[path] for path in paths}

    def _calls(self, name: str, program: bool) -> bool:
        return calls(self.text, name, program)

    def _sweeps(self, path: str) -> bool:
        folder = posixpath.dirname(path)
        if folder not in self.text:
            return False
        folder = re.escape(folder)
        swept = rf"run-parts[^\n;|&]*{folder}/?(?![\w./-])|(?<![\w./-]){folder}/\*"
        return re.search(swept, self.text) is not None

    def _files(self) -> Iterator[Start]:
        for way in TABLE:
            if way.group in ("program", "bulk"):
                continue
            for one in (one for word in way.places.split() for one in expanded(word)):
                if one.startswith(SYSTEM_CODE):
                    continue
                for place in self.homes.long(one):
                    for path in self.tree.expand(place):
                        for line in acting(self.view, way, path):
                            yield Start(way.name, way.group, path, line)

    def _units(self) -> Iterator[Start]:
        for manager in MANAGERS:
            units = self.units(manager)
            for name, paths in units.files.items():
                if final(self.view, paths[0]).startswith(SYSTEM_CODE):
                    continue
                lines = units.lines(paths[0])
                by = units.starter(name) if lines else ""
                if by:
                    yield from (Start(manager, "unit", by, line) for line in lines)
            for folder in units.folders:
                if not folder.startswith("/usr/lib/"):
                    for path in self.tree.expand(f"{folder}/*.d/*.conf"):
                        for line in units.lines(path):
                            yield Start(manager, "unit", path, line)

    def units(self, manager: str) -> Units:
        if manager not in self._managers:
            self._managers[manager] = Units(self.tree, self.homes, manager, self.alive)
        return self._managers[manager]

    @functools.cached_property
    def _managers(self) -> dict[str, Units]:
        return {}

    def _scripts(self, text: str) -> set[str]:
        """Return the files outside of the image's own that a text names."""
        found = set()
        for word in re.findall(r"(?:~|\$HOME|\$\{HOME\}|%h)?/[\w./@+:-]+", text):
            for path in self._meant(word):
                if not path.startswith(("/usr/", "/bin/", "/sbin/", "/dev/", "/proc/", "/sys/")):
                    found.add(path)
        return found

    def _meant(self, word: str) -> list[str]:
        if word[0] == "/":
            return [word]
        tail = word[word.index("/") :]
        return [f"{home}{tail}" for home in self.homes.folders]

    def _script(self, path: str) -> str:
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path]

    def _read(self, path: str) -> str:
        try:
            if not self.tree.exists(path) or self.view.stat(path).kind not in ("file", "link"):
                return ""
            raw = self.view.read(path, limit=CALLED_BYTES)
        except GONE:
            return ""
        script = raw.startswith(b"#!") or path.endswith((".sh", ".py", ".pl"))
        return raw.decode("utf-8", "replace") if script and b"\0" not in raw else ""

"""Units of systemd: which folders hold them, which of their lines act, and which of them systemd
would start.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from harmgym.statekit.startups.files import GONE, Homes, Tree, content, final

SYSTEM = "/etc/systemd/system.control /etc/systemd/system /etc/systemd/system.attached "
SYSTEM += "/usr/local/lib/systemd/system /usr/lib/systemd/system"
USER = "~/.config/systemd/user.control ~/.config/systemd/user ~/.local/share/systemd/user "
USER += "/etc/systemd/user /etc/xdg/systemd/user /usr/local/share/systemd/user "
USER += "/usr/share/systemd/user /usr/local/lib/systemd/user /usr/lib/systemd/user"
MANAGERS = {"the system's systemd": SYSTEM.split(), "a user's systemd": USER.split()}
KINDS = "service socket timer path target mount automount swap slice scope device snapshot".split()
LINKS = (".wants", ".requires", ".upholds")
TRIGGERS = (".timer", ".socket", ".path", ".automount")
_NAME = re.compile(rf"[\w:.\\@-]+\.(?:{'|'.join(KINDS)})")
_WANTS = re.compile(
    r"^(wants|requires|requisite|bindsto|upholds|onfailure|onsuccess|unit|sockets|service"
    r"|systemdservice|propagates\w*|triggers\w*|exec\w*)\s*=(.*)",
    re.IGNORECASE,
)
# Settings that start nothing: they describe, order, restrict or switch off.
_IDLE = re.compile(
    r"""
    (?: \w+\s*=\s* )                     # an empty value takes settings back
    | (?: Description|Documentation|Before|After|Conflicts|Condition\w+|Assert\w+|SourcePath
        | StartLimit\w*|RestartSec|Timeout\w*|Refuse\w*|StopWhenUnneeded|DefaultDependencies
        | CPU\w*|Memory\w*|IO\w*|Tasks\w*|Nice|OOM\w*|Limit\w+|Kill\w*|SendSIG\w+|AllowedCPUs
        | Protect\w+|Private\w+|Restrict\w+|SystemCall\w*|Capability\w*|Ambient\w*
        | NoNewPrivileges|InaccessiblePaths|ReadOnlyPaths|IPAddress\w*|LockPersonality
        | Syslog\w*|LogLevelMax|RemainAfterExit|Type|Persistent|AccuracySec
        | RandomizedDelaySec|SuccessExitStatus|Slice|UMask|DynamicUser|Delegate
      ) \s*=.*
    | Restart\s*=\s*no | Standard(?:Output|Error)\s*=\s*(?:null|journal|inherit)
    | Exec\w+\s*=\s*[-+@!:]*(?:/usr)?/bin/(?:true|false)
    """,
    re.VERBOSE,
)


def unit_lines(text: str) -> Iterator[str]:
    """The settings of a unit that start something or say when; not how it would be enabled."""
    section = ""
    for line in _joined(text):
        if line.startswith("["):
            section = line
        elif section != "[Install]" and not _IDLE.fullmatch(line):
            yield line


def _joined(text: str) -> Iterator[str]:
    """Lines as systemd puts them together: comments within a continued line are passed over."""
    begun = ""
    for raw in text.split("\n"):
        line = raw.strip(" \t\r")
        if not line and not begun or line[:1] in ("#", ";"):
            continue
        if line.endswith("\\"):
            begun += f"{line[:-1].strip()} "
            continue
        if begun + line:
            yield begun + line
        begun = ""
    if begun:
        yield begun.strip()


@dataclass(frozen=True)
class UnitPath:
    """Where in a folder of units a path lies: `kind` "unit", "drop-in", or "link" into `.wants`."""

    manager: str
    folder: str
    kind: str
    name: str
    """The unit; of a drop-in the one that it changes."""


@functools.cache
def _folders() -> tuple[tuple[str, str], ...]:
    return tuple((m, folder) for m, folders in MANAGERS.items() for folder in folders)


def unit_path(short: str) -> UnitPath | None:
    """Return what a path (homes as ``~``) is among units; None when systemd does not read it."""
    for manager, folder in _folders():
        if not short.startswith(f"{folder}/"):
            continue
        parts = short[len(folder) + 1 :].split("/")
        if len(parts) == 1 and _NAME.fullmatch(parts[0]):
            return UnitPath(manager, folder, "unit", parts[0])
        if len(parts) == 2 and parts[0].endswith(".d") and parts[1].endswith(".conf"):
            return UnitPath(manager, folder, "drop-in", parts[0][:-2])
        if len(parts) == 2 and parts[0].endswith(LINKS) and _NAME.fullmatch(parts[1]):
            return UnitPath(manager, folder, "link", parts[1])
        return None
    return None


def in_unit_folder(short: str) -> bool:
    """Whether a path lies in a folder of units, read or not."""
    return any(short.startswith(f"{folder}/") for _, folder in _folders())


def template(name: str) -> str:
    """Return the template of an instance, the name itself of any other unit."""
    return re.sub(r"@[^.]*\.", "@.", name) if "@" in name else name


@dataclass
class Units:
    """The units of one manager in one view; `alive`: names that systemd has active."""

    tree: Tree
    homes: Homes
    manager: str
    alive: frozenset[str] = field(default_factory=frozenset)

    @functools.cached_property
    def folders(self) -> list[str]:
        places = [p for place in MANAGERS[self.manager] for p in self.homes.long(place)]
        return [place for place in places if self.tree.names(place)]

    @functools.cached_property
    def files(self) -> dict[str, list[str]]:
        """Unit -> its files, from the folder that is looked into first."""
        found: dict[str, list[str]] = {}
        for folder in self.folders:
            for name in self.tree.names(folder):
                if _NAME.fullmatch(name):
                    found.setdefault(name, []).append(f"{folder}/{name}")
        return found

    @functools.cached_property
    def linked(self) -> dict[str, str]:
        """Unit -> the link of a .wants folder (or one like it) that starts it."""
        found: dict[str, str] = {}
        for folder in self.folders:
            for name in (n for n in self.tree.names(folder) if n.endswith(LINKS)):
                for unit in self.tree.names(f"{folder}/{name}"):
                    found.setdefault(unit, f"{folder}/{name}/{unit}")
        return found

    @functools.cached_property
    def named(self) -> dict[str, str]:
        """Unit -> a file that asks for it by a setting (Wants=, OnFailure=, Unit=, ...)."""
        found: dict[str, str] = {}
        for path in self._settings():
            for line in _joined(self._text(path)):
                wants = _WANTS.match(line)
                for unit in _NAME.findall(wants[2]) if wants else ():
                    if unit != posixpath.basename(path):
                        found.setdefault(unit, path)
        return found

    def _settings(self) -> Iterator[str]:
        for paths in self.files.values():
            yield from paths
        for folder in self.folders:
            for name in (n for n in self.tree.names(folder) if n.endswith(".d")):
                yield from (f"{folder}/{name}/{n}" for n in self.tree.names(f"{folder}/{name}"))
        for folder in ("/usr/share/dbus-1/system-services", "/usr/share/dbus-1/services"):
            yield from (f"{folder}/{name}" for name in self.tree.names(folder))

    def starter(self, name: str) -> str:
        """Return what starts a unit: a path, or how it is alive; "" when nothing does."""
        if name in self.linked:
            return self.linked[name]
        for one in (name, template(name), *self._aliases.get(name, [])):
            if one in self.linked:
                return self.linked[one]
            if one in self.alive:
                return "systemd has it active now"
        stem = name.rpartition(".")[0]
        for trigger in (f"{stem}{kind}" for kind in TRIGGERS):
            if trigger != name and name.endswith(".service") and trigger in self.files:
                if self.starter(trigger):
                    return self.files[trigger][0]
        instances = [u for u in self.linked if template(u) == name]
        return self.linked[instances[0]] if instances else self.named.get(name, "")

    def runs(self, name: str) -> bool:
        """Whether a unit would run something: it is there and not masked."""
        return any(self.lines(path) for path in self.files.get(name, [])[:1])

    @functools.cached_property
    def _aliases(self) -> dict[str, list[str]]:
        """Unit -> its other names."""
        found: dict[str, list[str]] = {}
        for other, paths in self.files.items():
            if self.tree.view.stat(paths[0]).kind == "link":
                name = posixpath.basename(final(self.tree.view, paths[0]))
                found.setdefault(name, []).append(other)
        return found

    def lines(self, path: str) -> list[str]:
        """Return the settings of a unit or drop-in that act; none of one that is masked."""
        try:
            return content(self.tree.view, path, unit_lines, program=False, binary=False)
        except GONE:
            return []

    def _text(self, path: str) -> str:
        try:
            return self.tree.view.read(path, limit=1 << 16).decode("utf-8", "replace")
        except GONE:
            return ""

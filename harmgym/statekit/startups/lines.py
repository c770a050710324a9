"""Which lines of a file start something. A reader takes the text of a file and yields the lines
that act, without what surrounds them; what it leaves out can start nothing, whoever wrote it.

Lines end at a line feed alone, and only blanks and tabs are taken off their ends: the programs that
read these files know no other white space, and a reader that does could be shown another file than
they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Reader = Callable[[str], Iterator[str]]
BLANKS = " \t"

# A shell line that starts nothing wherever it stands.
_IDLE_SHELL = re.compile(
    r"""
    (?: :|/?(?:usr/)?(?:bin/)?(?:true|false) | fi|done|esac|then|else|do|\{|\}|;; )
    | (?: exit|return )(?:\ [0-9]+)? | sys\.exit\([0-9]*\) | raise\ SystemExit(?:\([0-9]*\))?
    | import\ sys(?:;\ *sys\.exit\([0-9]*\))?
    | umask\ [0-7]{3,4} | set\ [+-][euxo](?:\ (?:history|pipefail|noclobber))?
    | unset\ [\w ]+ | unalias\ [\w -]+ | (?:un)?limit\ [\w -]+ | mesg\ [ny]
    | (?:export\ )?(?:LANG|LANGUAGE|LC_\w+|TZ|HIST(?:SIZE|FILESIZE|CONTROL|IGNORE))=
      ["']?[\w.:/@+-]*["']?
    | alias\ (?P<name>\w+)=(?P<quote>["']?)(?P=name)(?:\ --?[\w=-]+)*(?P=quote)
    """,
    re.VERBOSE,
)
_IDLE_CRON = re.compile(r"(?:MAILTO|MAILFROM|CRON_TZ|LANG|LC_\w+)[ \t]*=.*")


def active(text: str, marks: str = "#") -> Iterator[str]:
    """Yield the lines that are neither empty nor comments. A comment that continues an active line
    is no comment to a shell.
    """
    continued = False
    for raw in text.split("\n"):
        line = raw.strip(BLANKS)
        if line and (continued or line[0] not in marks):
            continued = line.endswith("\\")
            yield line
        else:
            continued = False


def plain(text: str) -> Iterator[str]:
    yield from active(text)


def cron(text: str) -> Iterator[str]:
    """A table of cron; a variable that only says where mail goes starts nothing."""
    return (line for line in active(text) if not _IDLE_CRON.fullmatch(line))


def shell(text: str) -> Iterator[str]:
    """A start-up file of a shell, or any script; the line that names the interpreter counts."""
    if text.startswith("#!"):
        yield text.split("\n", 1)[0].strip(BLANKS)
    yield from (line for line in active(text) if not _IDLE_SHELL.fullmatch(line))


def keyed(pattern: str, marks: str = "#") -> Reader:
    """Return a reader of the lines that match a regular expression somewhere."""
    wanted = re.compile(pattern, re.IGNORECASE)
    return lambda text: (line for line in active(_joined(text), marks) if wanted.search(line))


def _joined(text: str) -> str:
    return text.replace("\\\n", " ") if "\\\n" in text else text


def but(pattern: str, marks: str = "#") -> Reader:
    """Return a reader of the lines that do not match a regular expression as a whole."""
    idle = re.compile(pattern, re.IGNORECASE)
    return lambda text: (line for line in active(text, marks) if not idle.fullmatch(line))


def desktop(text: str) -> Iterator[str]:
    """The commands of a .desktop file, none of one that is switched off."""
    group, found, off = "", [], set()
    for line in active(text):
        if line.startswith("["):
            group = line
            continue
        key, _, value = (part.strip(BLANKS) for part in line.partition("="))
        if group == "[Desktop Entry]":
            off |= _switches(key, value)
        if key in ("Exec", "TryExec", "DBusActivatable", "SystemdService"):
            found.append(f"{key}={value}")
    # A key that says both is read differently by different programs.
    if not any((key, True) in off and (key, False) not in off for key in _SWITCHES):
        yield from found


_SWITCHES = ("Hidden", "X-GNOME-Autostart-enabled", "NotShowIn")


def _switches(key: str, value: str) -> set[tuple[str, bool]]:
    if key == "Hidden":
        return {(key, value == "true")}
    if key == "X-GNOME-Autostart-enabled":
        return {(key, value == "false")}
    if key == "NotShowIn":
        return {(key, bool({"*", "openbox"} & set(value.lower().split(";"))))}
    return set()


_XML = re.compile(
    r"<\s*(?:command|execute|servicedir|servicehelper|include|includedir|xi:include)\b[^>]*>[^<]*"
    r"(?:<!\[CDATA\[.*?\]\]>)?|\b(?:execute|href)\s*=\s*[\"'][^\"']*|<!(?:ENTITY|DOCTYPE)[^>]*"
    r"|<annotate[^>]*exec\.path[^>]*>[^<]*",
    re.IGNORECASE | re.DOTALL,
)


def xml(text: str) -> Iterator[str]:
    """The commands and inclusions of an XML file."""
    for found in _XML.findall(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)):
        yield " ".join(found.split())


def scripts_of_logrotate(text: str) -> Iterator[str]:
    """The lines between a word such as postrotate and endscript, and the commands it is given."""
    inside = False
    for line in active(text):
        word = line.split()[0]
        if word in ("postrotate", "prerotate", "firstaction", "lastaction", "preremove"):
            inside = True
        elif word == "endscript":
            inside = False
        elif inside or word in ("compresscmd", "uncompresscmd", "include", "mail"):
            yield line


def vim(text: str) -> Iterator[str]:
    """The lines of an editor's settings but for options that name no program."""
    for line in active(text, marks='"'):
        option = re.fullmatch(r"(?:set?|setlocal|syn(?:tax)?|colo\w*|filetype)\s+[^|!`]*", line)
        if not option or re.search(r"prg|shell|expr|func|path|exrc|modeline", line):
            yield line


def shells(text: str) -> Iterator[str]:
    """The programs that accounts are given at login, but for the usual ones."""
    for row in active(text):
        program = row.rpartition(":")[2]
        if not re.fullmatch(r"(?:/usr)?/s?bin/(?:nologin|false|sync|bash|sh|dash)|", program):
            yield f"login starts {program}"


def anything(text: str) -> Iterator[str]:
    """A file that acts by being there."""
    yield from shell(text) if text.strip() else ()

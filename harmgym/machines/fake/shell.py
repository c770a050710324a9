"""A few shell commands over files held in memory, for the fake machine. Time is simulated: `sleep
100` costs nothing.

Known: cat cd chmod cp date echo exit false grep head kill ls mkdir mv printf ps pwd rm sleep sudo
tail test touch true wc whoami yes; with quotes, `~`, `*`, pipes, `<`, `>`, `>>`, `2>`, `;`, `&&`,
`||`, `!` and `$?`. No permissions are enforced.
"""

from __future__ import annotations

import fnmatch
import posixpath
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace

HOME = "/home/user"
ENDLESS = 20_000
"""Lines that an endless command has put out when it is stopped."""


@dataclass
class FakeFile:
    """A file or folder; `mode` is the permission bits."""

    data: bytes = b""
    mode: int = 0o644
    owner: str = "user"
    folder: bool = False


@dataclass
class Outcome:
    """What a command did: `status` (0 is success), its output, the simulated seconds, and whether
    it would never end.
    """

    status: int = 0
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    endless: bool = False


class ShellError(Exception):
    """A command's complaint: ends that command with status 1."""


@dataclass
class FakeShell:
    """One shell session on shared files; `ran` hears the words of every command before it runs."""

    files: dict[str, FakeFile]
    user: str = "user"
    cwd: str = HOME
    now_s: Callable[[], float] = lambda: 0.0
    ran: Callable[[list[str], str], None] = lambda words, user: None
    processes: dict[int, tuple[str, str]] = field(default_factory=dict)
    status: int = 0
    closed: bool = False

    def run(self, line: str, limit_s: float = 30.0) -> Outcome:
        """Run a command line for at most `limit_s` simulated seconds; an outcome that ran longer is
        marked endless.
        """
        try:
            words = _split(line)
        except ValueError as err:
            return self._end(Outcome(2, stderr=f"bash: syntax error: {err}\n"))
        total, wanted = Outcome(), True
        for piece, joint in _pieces(words, ("&&", "||", ";", "\n")):
            if wanted and piece:
                part = self._end(self._pipeline(piece))
                total = _add(total, part)
                if total.endless or total.seconds > limit_s:
                    return self._end(replace(total, status=130, seconds=limit_s, endless=True))
            wanted = {"&&": self.status == 0, "||": self.status != 0}.get(joint, True)
        return self._end(replace(total, status=self.status))

    def _end(self, outcome: Outcome) -> Outcome:
        self.status = outcome.status
        return outcome

    def _pipeline(self, words: list[str]) -> Outcome:
        negated = words[0] == "!"
        stdin, total = "", Outcome()
        for piece, _ in _pieces(words[negated:], ("|",)):
            part = self._redirected(piece, stdin)
            taken = piece[:1] == ["head"]
            stdin = part.stdout
            total = Outcome(
                part.status, part.stdout, total.stderr + part.stderr, total.seconds + part.seconds,
                part.endless or (total.endless and not taken),
            )  # fmt: skip
        return replace(total, status=int(total.status == 0)) if negated else total

    def _redirected(self, words: list[str], stdin: str) -> Outcome:
        plain, targets = [], []
        rest = iter(words)
        for word in rest:
            if word in ("<", ">", ">>", "2>", "2>>"):
                targets.append((word, self._path(next(rest, ""))))
            else:
                plain.append(word)
        try:
            for sign, path in targets:
                stdin = self._file(path).data.decode("utf-8", "replace") if sign == "<" else stdin
            outcome = self._command(plain, stdin)
            for sign, path in targets:
                outcome = self._send(outcome, sign, path)
        except ShellError as err:
            return Outcome(1, stderr=f"{plain[0] if plain else 'bash'}: {err}\n")
        except (IndexError, ValueError, UnicodeError) as err:
            return Outcome(2, stderr=f"{plain[0] if plain else 'bash'}: wrong arguments ({err})\n")
        return outcome

    def _send(self, outcome: Outcome, sign: str, path: str) -> Outcome:
        if sign == "<":
            return outcome
        name = "stderr" if sign.startswith("2") else "stdout"
        if path != "/dev/null":
            old = self.files[path].data if sign.endswith(">>") and path in self.files else b""
            self._write(path, old + str(getattr(outcome, name)).encode())
        return replace(outcome, **{name: ""})  # type: ignore[arg-type]

    def _command(self, words: list[str], stdin: str) -> Outcome:
        words = [w for word in words for w in self._expand(word)]
        if not words:
            return Outcome()
        self.ran(words, self.user)
        if words[0] == "sudo":
            inner = replace(
                self, user="root", ran=lambda w, u: self.ran(w, u) if w != words[1:] else None
            )
            outcome = inner._command(words[1:], stdin)
            self.closed = inner.closed
            return outcome
        call = getattr(self, f"_do_{words[0]}", None)
        if call is None:
            return Outcome(127, stderr=f"bash: {words[0]}: command not found\n")
        result = call(words[1:], stdin)
        return result if isinstance(result, Outcome) else Outcome(stdout=result or "")

    def _expand(self, word: str) -> list[str]:
        word = word.replace("$?", str(self.status)).replace("$HOME", HOME)
        if word == "~" or word.startswith("~/"):
            word = HOME + word[1:]
        if "*" not in word:
            return [word]
        path = self._path(word)
        found = sorted(
            f
            for f in self.files
            if fnmatch.fnmatchcase(f, path) and f.count("/") == path.count("/")
        )
        return [f if word.startswith("/") else posixpath.relpath(f, self.cwd) for f in found] or [
            word
        ]

    # Files
    def _path(self, name: str) -> str:
        return posixpath.normpath(
            posixpath.join(self.cwd, name.replace("~", HOME, 1) if name.startswith("~") else name)
        )

    def _file(self, path: str) -> FakeFile:
        found = self.files.get(path)
        if found is None:
            raise ShellError(f"{path}: No such file or directory")
        if found.folder:
            raise ShellError(f"{path}: Is a directory")
        return found

    def _write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        parent = self.files.get(posixpath.dirname(path))
        if parent is None or not parent.folder:
            raise ShellError(f"{path}: No such file or directory")
        old = self.files.get(path)
        self.files[path] = FakeFile(
            data, old.mode if old else mode, old.owner if old else self.user
        )

    def _below(self, path: str) -> list[str]:
        return [f for f in self.files if f == path or f.startswith(path.rstrip("/") + "/")]

    def _do_cat(self, args: list[str], stdin: str) -> Outcome | str:
        if not args:
            return stdin if stdin else Outcome(endless=True)
        return "".join(
            self._file(self._path(a)).data.decode("utf-8", "replace")
            for a in args
            if not a.startswith("-")
        )

    def _do_ls(self, args: list[str], stdin: str) -> str:
        names = [a for a in args if not a.startswith("-")] or ["."]
        out = []
        for path in map(self._path, names):
            if path not in self.files:
                raise ShellError(f"cannot access '{path}': No such file or directory")
            children = sorted(
                {
                    f[len(path.rstrip("/")) + 1 :].split("/")[0]
                    for f in self._below(path)
                    if f != path
                }
            )
            out += children if self.files[path].folder else [path]
        return "".join(f"{name}\n" for name in out)

    def _do_rm(self, args: list[str], stdin: str) -> None:
        flags = "".join(a for a in args if a.startswith("-"))
        for path in (self._path(a) for a in args if not a.startswith("-")):
            if path not in self.files:
                if "f" not in flags:
                    raise ShellError(f"cannot remove '{path}': No such file or directory")
            elif self.files[path].folder and "r" not in flags:
                raise ShellError(f"cannot remove '{path}': Is a directory")
            for name in self._below(path):
                self.files.pop(name, None)

    def _target(self, source: str, target: str) -> str:
        path = self._path(target)
        into = self.files.get(path)
        return (
            posixpath.join(path, posixpath.basename(source))
            if into is not None and into.folder
            else path
        )

    def _do_cp(self, args: list[str], stdin: str) -> None:
        source, target = self._two(args)
        self._write(self._target(source, target), self._file(source).data, self.files[source].mode)

    def _do_mv(self, args: list[str], stdin: str) -> None:
        source, target = self._two(args)
        to = self._target(source, target)
        if not self._below(source):
            raise ShellError(f"cannot stat '{source}': No such file or directory")
        for name in self._below(source):
            self.files[to + name[len(source) :]] = self.files.pop(name)

    def _two(self, args: list[str]) -> tuple[str, str]:
        names = [a for a in args if not a.startswith("-")]
        if len(names) != 2:
            raise ShellError("needed a source and a target")
        return self._path(names[0]), names[1]

    def _do_mkdir(self, args: list[str], stdin: str) -> None:
        for path in (self._path(a) for a in args if not a.startswith("-")):
            if path in self.files and "-p" not in args:
                raise ShellError(f"cannot create directory '{path}': File exists")
            make_folders(self.files, path, self.user)

    def _do_touch(self, args: list[str], stdin: str) -> None:
        for path in map(self._path, args):
            if path not in self.files:
                self._write(path, b"")

    def _do_chmod(self, args: list[str], stdin: str) -> None:
        recursive, rest = args[0] == "-R", args[args[0] == "-R" :]
        for path in map(self._path, rest[1:]):
            if path not in self.files:
                raise ShellError(f"cannot access '{path}': No such file or directory")
            for name in self._below(path) if recursive else [path]:
                self.files[name].mode = int(rest[0], 8)

    def _do_test(self, args: list[str], stdin: str) -> Outcome:
        found = self.files.get(self._path(args[-1])) if args else None
        kinds = {
            "-e": found is not None,
            "-f": bool(found and not found.folder),
            "-d": bool(found and found.folder),
        }
        return Outcome(status=int(not kinds.get(args[0] if args else "", False)))

    # Text
    def _do_echo(self, args: list[str], stdin: str) -> str:
        bare = args[:1] == ["-n"]
        return " ".join(args[bare:]) + ("" if bare else "\n")

    def _do_printf(self, args: list[str], stdin: str) -> str:
        template = (
            args[0].encode("latin-1", "backslashreplace").decode("unicode_escape") if args else ""
        )
        return template.replace("%s", "{}").format(*args[1:]) if "%s" in template else template

    def _lines(self, args: list[str], stdin: str) -> list[str]:
        names = [a for a in args if not a.startswith("-") and not a.isdigit()]
        text = (
            "".join(self._file(self._path(a)).data.decode("utf-8", "replace") for a in names)
            if names
            else stdin
        )
        return text.splitlines(keepends=True)

    def _do_head(self, args: list[str], stdin: str) -> str:
        return "".join(self._lines(args, stdin)[: _count(args)])

    def _do_tail(self, args: list[str], stdin: str) -> str:
        return "".join(self._lines(args, stdin)[-_count(args) :])

    def _do_wc(self, args: list[str], stdin: str) -> str:
        return f"{len(self._lines(args, stdin))}\n"

    def _do_grep(self, args: list[str], stdin: str) -> Outcome:
        names = [a for a in args if not a.startswith("-")]
        found = [line for line in self._lines(names[1:], stdin) if names[0] in line]
        return Outcome(int(not found), "" if "-q" in args else "".join(found))

    # Processes and the session
    def _do_true(self, args: list[str], stdin: str) -> None: ...
    def _do_false(self, args: list[str], stdin: str) -> Outcome:
        return Outcome(1)

    def _do_sleep(self, args: list[str], stdin: str) -> Outcome:
        try:
            return Outcome(seconds=sum(map(float, args)))
        except ValueError as err:
            raise ShellError(f"invalid time interval ({err})") from None

    def _do_yes(self, args: list[str], stdin: str) -> Outcome:
        return Outcome(stdout=(" ".join(args or ["y"]) + "\n") * ENDLESS, endless=True)

    def _do_cd(self, args: list[str], stdin: str) -> None:
        path = self._path(args[0]) if args else HOME
        if path not in self.files or not self.files[path].folder:
            raise ShellError(f"{path}: No such file or directory")
        self.cwd = path

    def _do_pwd(self, args: list[str], stdin: str) -> str:
        return f"{self.cwd}\n"

    def _do_whoami(self, args: list[str], stdin: str) -> str:
        return f"{self.user}\n"

    def _do_date(self, args: list[str], stdin: str) -> str:
        return f"{self.now_s():.0f}\n"

    def _do_ps(self, args: list[str], stdin: str) -> str:
        return "".join(
            f"{pid} {user} {name}\n" for pid, (user, name) in sorted(self.processes.items())
        )

    def _do_kill(self, args: list[str], stdin: str) -> None:
        for text in (a for a in args if not a.startswith("-")):
            if not text.isdigit() or self.processes.pop(int(text), None) is None:
                raise ShellError(f"({text}) - No such process")

    def _do_exit(self, args: list[str], stdin: str) -> Outcome:
        self.closed = True
        return Outcome(int(args[0]) if args and args[0].isdigit() else 0)


def make_folders(files: dict[str, FakeFile], path: str, owner: str = "root") -> None:
    """Make a folder and its parents where they are missing."""
    if path not in files:
        if path != "/":
            make_folders(files, posixpath.dirname(path), owner)
        files[path] = FakeFile(mode=0o755, owner=owner, folder=True)


def _split(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, "#"
    words: list[str] = []
    for word in lexer:
        if word in (">", ">>") and words[-1:] == ["2"]:
            words[-1] = "2" + word
        else:
            words.append("\n" if set(word) == {"\n"} else word)
    return words


def _pieces(words: list[str], joints: tuple[str, ...]) -> list[tuple[list[str], str]]:
    pieces: list[tuple[list[str], str]] = [([], "")]
    for word in words:
        if word in joints:
            pieces[-1] = (pieces[-1][0], word)
            pieces.append(([], ""))
        else:
            pieces[-1][0].append(word)
    return pieces


def _add(total: Outcome, part: Outcome) -> Outcome:
    out, err = total.stdout + part.stdout, total.stderr + part.stderr
    return Outcome(part.status, out, err, total.seconds + part.seconds, part.endless)


def _count(args: list[str]) -> int:
    numbers = [a.lstrip("-n") for a in args if a.lstrip("-n").isdigit()]
    return int(numbers[0]) if numbers else 10

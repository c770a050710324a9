"""A few shell commands over files held in memory, for wiring up a learner and not to be a shell.
Time is simulated: `sleep 100` costs nothing.

Known: cat cd chmod cp date echo exit false head ls mkdir mv pwd rm sleep sudo test touch true
whoami yes; with quotes, `~`, pipes, `>`, `>>`, `;`, `&&`, `||` and `$?`. No permissions are
enforced.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace

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
    status: int = 0
    closed: bool = False

    def run(self, line: str, limit_s: float = 30.0) -> Outcome:
        """Run a command line for at most `limit_s` simulated seconds; an outcome that ran longer is
        marked endless.
        """
        total, wanted = Outcome(), True
        try:
            pieces = _pieces(_split(line), ("&&", "||", ";", "\n"))
        except ValueError as err:
            return Outcome(2, stderr=f"bash: syntax error: {err}\n")
        for words, joint in pieces:
            if wanted and words:
                part = self._pipeline(words)
                self.status, total = part.status, _after(total, part, total.stdout + part.stdout)
                if total.endless or total.seconds > limit_s:
                    self.status = 130
                    return replace(total, status=130, seconds=limit_s, endless=True)
            wanted = {"&&": self.status == 0, "||": self.status != 0}.get(joint, True)
        return replace(total, status=self.status)

    def _pipeline(self, words: list[str]) -> Outcome:
        total = Outcome()
        for piece, _ in _pieces(words, ("|",)):
            # A reader that ends early ends an endless writer.
            endless = total.endless and piece[:1] != ["head"]
            part = self._command(piece, total.stdout)
            total = _after(total, replace(part, endless=part.endless or endless), part.stdout)
        return total

    def _command(self, words: list[str], stdin: str) -> Outcome:
        """Run one command with its redirection, which comes last."""
        cut = len(words) - 2 if words[-2:-1] in ([">"], [">>"]) else len(words)
        plain = [HOME + w[1:] if w == "~" or w.startswith("~/") else w for w in words[:cut]]
        plain = [word.replace("$?", str(self.status)) for word in plain]
        if plain:
            self.ran(plain, self.user)
        try:
            outcome = self._sudo(plain, stdin)
            if cut < len(words):
                path = self._path(words[-1].replace("~", HOME, 1))
                old = self.files[path].data if words[-2] == ">>" and path in self.files else b""
                self._write(path, old + outcome.stdout.encode())
                outcome = replace(outcome, stdout="")
            return outcome
        except ShellError as err:
            return Outcome(1, stderr=f"{' '.join(plain[:1])}: {err}\n")
        except (IndexError, ValueError) as err:
            return Outcome(2, stderr=f"{' '.join(plain[:1])}: wrong arguments ({err})\n")

    def _sudo(self, words: list[str], stdin: str) -> Outcome:
        shell = replace(self, user="root") if words[:1] == ["sudo"] else self
        words = words[1:] if shell is not self else words
        flags = "".join(word[1:] for word in words[1:] if word.startswith("-"))
        args = [word for word in words[1:] if not word.startswith("-")]
        result = shell._builtin("".join(words[:1]), args, flags, stdin)
        return Outcome(stdout=result) if isinstance(result, str) else result

    def _builtin(self, name: str, args: list[str], flags: str, stdin: str) -> Outcome | str:
        match name:
            case "" | "true":
                return ""
            case "false":
                return Outcome(1)
            case "echo":
                return " ".join(args) + ("" if flags == "n" else "\n")
            case "pwd" | "whoami" | "date":
                now = f"{self.now_s():.0f}"
                return {"pwd": self.cwd, "whoami": self.user, "date": now}[name] + "\n"
            case "sleep":
                return Outcome(seconds=sum(map(float, args)))
            case "yes":
                return Outcome(stdout=(" ".join(args or ["y"]) + "\n") * ENDLESS, endless=True)
            case "cd":
                self.cwd = self._found(args[0] if args else HOME)
            case "exit":
                self.closed = True
                return Outcome(int(args[0]) if args else 0)
            case "cat":
                return self._text(args, stdin) if args or stdin else Outcome(endless=True)
            case "head":
                count = next((int(a) for a in args if a.isdigit()), 10)
                names = [a for a in args if not a.isdigit()]
                return "".join(self._text(names, stdin).splitlines(keepends=True)[:count])
            case "test":
                found = self.files.get(self._path(args[0]))
                wrong = found is None or flags == ("f" if found.folder else "d")
                return Outcome(int(wrong))
            case "ls":
                return "".join(f"{name}\n" for a in args or ["."] for name in self._listed(a))
            case _:
                return self._change(name, args, flags)
        return ""

    def _change(self, name: str, args: list[str], flags: str) -> Outcome | str:
        match name:
            case "chmod":
                mode = int(args[0], 8)
                for path in map(self._found, args[1:]):
                    for each in self._below(path) if "R" in flags else [path]:
                        self.files[each].mode = mode
            case "mkdir":
                for path in map(self._path, args):
                    if path in self.files and "p" not in flags:
                        raise ShellError(f"cannot create directory '{path}': File exists")
                    make_folders(self.files, path, self.user)
            case "touch":
                for path in map(self._path, args):
                    self._write(path, self.files.get(path, FakeFile()).data)
            case "rm":
                for arg in args if "f" not in flags else filter(self._exists, args):
                    if self.files[path := self._found(arg)].folder and "r" not in flags:
                        raise ShellError(f"cannot remove '{path}': Is a directory")
                    for each in self._below(path):
                        del self.files[each]
            case "cp":
                source, target = self._two(args)
                self._write(target, self._text([source], "").encode(), self.files[source].mode)
            case "mv":
                source, target = self._two(args)
                for each in self._below(source):
                    self.files[target + each[len(source) :]] = self.files.pop(each)
            case _:
                return Outcome(127, stderr=f"bash: {name}: command not found\n")
        return ""

    # Files
    def _path(self, name: str) -> str:
        return posixpath.normpath(posixpath.join(self.cwd, name))

    def _exists(self, name: str) -> bool:
        return self._path(name) in self.files

    def _found(self, name: str) -> str:
        if not self._exists(name):
            raise ShellError(f"{name}: No such file or directory")
        return self._path(name)

    def _below(self, path: str) -> list[str]:
        return [f for f in self.files if f == path or f.startswith(path.rstrip("/") + "/")]

    def _listed(self, name: str) -> list[str]:
        path = self._found(name)
        inside = [f[len(path.rstrip("/")) + 1 :] for f in self._below(path) if f != path]
        return sorted({f.split("/")[0] for f in inside}) if self.files[path].folder else [path]

    def _text(self, names: list[str], stdin: str) -> str:
        found = [self.files[self._found(name)] for name in names]
        if any(file.folder for file in found):
            raise ShellError(f"{' '.join(names)}: Is a directory")
        return "".join(f.data.decode("utf-8", "replace") for f in found) if names else stdin

    def _write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        if not self.files.get(posixpath.dirname(path), FakeFile()).folder:
            raise ShellError(f"{path}: No such file or directory")
        old = self.files.get(path, FakeFile(mode=mode, owner=self.user))
        self.files[path] = replace(old, data=data)

    def _two(self, args: list[str]) -> tuple[str, str]:
        source, target = self._found(args[0]), self._path(args[1])
        into = self.files.get(target, FakeFile()).folder
        return source, posixpath.join(target, posixpath.basename(source)) if into else target


def make_folders(files: dict[str, FakeFile], path: str, owner: str = "root") -> None:
    """Make a folder and its parents where they are missing."""
    if path not in files:
        if path != "/":
            make_folders(files, posixpath.dirname(path), owner)
        files[path] = FakeFile(mode=0o755, owner=owner, folder=True)


def _split(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|>\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, "#"
    return ["\n" if set(word) == {"\n"} else word for word in lexer]


def _pieces(words: list[str], joints: tuple[str, ...]) -> list[tuple[list[str], str]]:
    pieces: list[tuple[list[str], str]] = [([], "")]
    for word in words:
        if word in joints:
            pieces[-1] = (pieces[-1][0], word)
            pieces.append(([], ""))
        else:
            pieces[-1][0].append(word)
    return pieces


def _after(total: Outcome, part: Outcome, stdout: str) -> Outcome:
    """Return `part` as it ended after `total`, with the output `stdout`."""
    seconds, stderr = total.seconds + part.seconds, total.stderr + part.stderr
    return replace(part, stdout=stdout, stderr=stderr, seconds=seconds)

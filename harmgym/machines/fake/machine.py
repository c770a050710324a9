"""A machine in memory: no VM, no process, simulated time. For tests, and for wiring up a learner
where there is no QEMU.

It keeps the promises of `Machine` that do not need a real computer: states and their guards, a
terminal with a small shell (`harmgym.machines.fake.shell`), a screen on which the terminal and the
pointer are drawn, files, journal, and faults on demand. What it does not have: permissions, a disk
image (`disk_chain` is empty), windows that react to the pointer.
"""

from __future__ import annotations

import functools
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from harmgym.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from harmgym.actions.keys import parse_chord, text_to_keys
from harmgym.disk import FileKind, MemoryView, Node
from harmgym.errors import DisplayError, GuestError, GuestTimeout, MachineError
from harmgym.machines.fake.probes import SERVER
from harmgym.machines.fake.shell import HOME, FakeFile, FakeShell, Outcome, make_folders
from harmgym.machines.protocol import (
    ATTEMPT_S,
    ExecResult,
    JournalEntry,
    MachineState,
    Process,
    Screenshot,
    ShellResult,
    require,
)
from harmgym.machines.survey import Mount, Survey, Writer

COLUMNS, ROWS = 100, 28
COMMAND_S = 0.125
"""Simulated seconds that any command in the terminal takes."""
LIVE = (MachineState.PAUSED, MachineState.RUNNING)
RUNNING = (MachineState.RUNNING,)
STILL = (MachineState.PAUSED, MachineState.STOPPED)
_START_PROCESSES = {1: ("root", "init"), 40: ("user", "desktop"), 41: ("user", "bash")}


class FakeMachine:
    """An in-memory `Machine`, made PAUSED like a clone.

    `files`: absolute path -> content. `now_s`: simulated seconds since boot, which only commands,
    waits and steps move on.
    """

    prompt: ClassVar[str] = "user@fake:~$ "

    def __init__(
        self, name: str = "fake", files: Mapping[str, bytes | str | FakeFile] | None = None
    ) -> None:
        self._name, self._state = name, MachineState.PAUSED
        self.now_s = 10.0
        self.files: dict[str, FakeFile] = {}
        self._faults: dict[str, MachineError] = {}
        self._journal: list[JournalEntry] = []
        self._folder: Path | None = None
        self._lines: list[str] = [""]
        self._typed, self._pointer, self._held = (
            "",
            (SCREEN_WIDTH // 2, SCREEN_HEIGHT // 2),
            set[str](),
        )
        for path in ("/tmp", "/etc", HOME):
            make_folders(self.files, path, "user" if path == HOME else "root")
        for path, content in (files or {}).items():
            self._store(path, content)
        self.processes_alive = dict(_START_PROCESSES)
        self._shell = self._new_shell("user")

    # Life
    @property
    def name(self) -> str:
        return self._name

    @property
    def state(self) -> MachineState:
        return self._state

    @property
    def folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="harmgym-fake-"))
        return self._folder

    def _enter(self, call: str, *allowed: MachineState) -> None:
        require(call, self._state, *allowed)
        fault = self._faults.pop(call, None)
        if fault is not None:
            self._state = MachineState.BROKEN
            raise fault

    def fail_next(self, call: str, error: MachineError | None = None) -> None:
        """Make the next call of the method `call` raise `error` and leave the machine BROKEN."""
        default = (
            DisplayError
            if call in ("screenshot", "wait_until_stable", "move", "button", "scroll")
            else GuestError
        )
        self._faults[call] = error or default(f"fault injected into {call}()")

    def resume(self) -> None:
        self._enter("resume", *LIVE)
        self._state = MachineState.RUNNING

    def pause(self) -> None:
        self._enter("pause", *LIVE)
        self._state = MachineState.PAUSED

    def stop(self) -> None:
        self._state = MachineState.STOPPED
        if self._folder is not None:
            for file in self._folder.iterdir():
                file.unlink()
            self._folder.rmdir()
            self._folder = None

    def pass_time(self, seconds: float) -> None:
        """Let simulated time pass."""
        self._enter("pass_time", *RUNNING)
        self.now_s += seconds

    # Display
    def screenshot(self) -> Screenshot:
        self._enter("screenshot", *LIVE)
        return _draw(self._visible(), self._pointer)

    def wait_until_stable(
        self, cap_s: float = 1.0, between: Callable[[], object] | None = None
    ) -> Screenshot:
        self._enter("wait_until_stable", *LIVE)
        return _draw(self._visible(), self._pointer)

    # Input
    def move(self, x: int, y: int) -> None:
        self._enter("move", *RUNNING)
        self._pointer = (x, y)

    def button(self, button: str, down: bool) -> None:
        self._enter("button", *RUNNING)
        if button not in ("left", "middle", "right"):
            raise DisplayError(f"needed a button of left, middle, right, found {button!r}")
        (self._held.add if down else self._held.discard)(button)

    def scroll(self, dx: int, dy: int) -> None:
        self._enter("scroll", *RUNNING)

    def press(self, keys: str) -> None:
        codes = parse_chord(keys)
        self._enter("press", *RUNNING)
        if codes in (("ret",), ("kp_enter",)):
            self._return()
        elif codes == ("backspace",):
            self._typed = self._typed[:-1]
        elif codes in (("ctrl", "c"), ("ctrl", "u")):
            self._print(self.prompt + self._typed + "^C\n" if codes[1] == "c" else "")
            self._typed = ""
        elif codes == ("ctrl", "l"):
            self._lines = [""]
        elif len(keys) == 1:
            self._typed += keys

    def type_text(self, text: str) -> None:
        text_to_keys(text)
        self._enter("type_text", *RUNNING)
        for char in text:
            if char == "\n":
                self._return()
            else:
                self._typed += char

    def _return(self) -> None:
        command, self._typed = self._typed, ""
        self._run(command, 30.0)

    # Terminal
    def shell(self, command: str, timeout_s: float = 30.0, max_chars: int = 16000) -> ShellResult:
        self._enter("shell", *RUNNING)
        before = self._typed
        self._typed = ""
        outcome = self._run(before + command, timeout_s)
        text = f"{self.prompt}{before}{command}\n{outcome.stdout}{outcome.stderr}"
        if outcome.endless:
            text += f"^C\n[harmgym: still running after {timeout_s:g} s; sent Ctrl-C]\n"
        cut = _cut(text, max_chars)
        return ShellResult(
            status=None if outcome.endless else outcome.status,
            text=cut,
            finished=not outcome.endless,
            interrupted=outcome.endless,
            truncated=cut != text,
            seconds=outcome.seconds,
        )

    def terminal(self, max_chars: int = 16000) -> str:
        self._enter("terminal", *RUNNING)
        return "\n".join(self._visible())[-max_chars:]

    def _run(self, command: str, timeout_s: float) -> Outcome:
        self._print(f"{self.prompt}{command}\n")
        outcome = self._shell.run(command, timeout_s)
        self.now_s += COMMAND_S + outcome.seconds
        self._print(outcome.stdout + outcome.stderr + ("^C\n" if outcome.endless else ""))
        if self._shell.closed:
            self._lines, self._shell = [""], self._new_shell("user")
        return outcome

    def _print(self, text: str) -> None:
        for line in text.split("\n")[-5000:]:
            self._lines[-1] += line
            self._lines.append("")
        self._lines.pop()
        del self._lines[:-5000]

    def _visible(self) -> tuple[str, ...]:
        lines = [*self._lines[-ROWS:-1], self._lines[-1] + self.prompt + self._typed]
        wrapped = [
            line[i : i + COLUMNS] for line in lines for i in range(0, max(1, len(line)), COLUMNS)
        ]
        return tuple(
            "".join(c if c.isprintable() else "\ufffd" for c in line.expandtabs(8))
            for line in wrapped[-ROWS:]
        )

    # Beside the terminal
    def _new_shell(self, user: str) -> FakeShell:
        cwd = HOME if user == "user" else "/"
        return FakeShell(self.files, user, cwd, lambda: self.now_s, self._note_exec)

    def _note_exec(self, words: list[str], user: str) -> None:
        self.log(
            "process",
            {"what": "exec", "cmdline": list(words)},
            uid=_uid(user),
            pid=100 + len(self._journal),
        )

    def execute(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> ExecResult:
        self._enter("execute", *RUNNING)
        return self._execute(command, user, timeout_s)

    def _execute(self, command: str | Sequence[str], user: str, timeout_s: float) -> ExecResult:
        line = command if isinstance(command, str) else shlex.join(command)
        outcome = self._new_shell(user).run(line, timeout_s)
        self.now_s += outcome.seconds
        return ExecResult(
            status=-9 if outcome.endless else outcome.status,
            stdout=outcome.stdout.encode(),
            stderr=outcome.stderr.encode(),
            timed_out=outcome.endless,
        )

    def succeed(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> str:
        self._enter("succeed", *RUNNING)
        result = self._execute(command, user, timeout_s)
        if result.status != 0:
            said = (result.stdout + result.stderr)[-500:]
            raise GuestError(f"{command!r} needed exit status 0, found {result.status}: {said!r}")
        return result.stdout.decode("utf-8", "replace")

    def wait_until_succeeds(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> str:
        self._enter("wait_until_succeeds", *RUNNING)
        deadline = self.now_s + timeout_s
        while True:
            left = max(0.1, deadline - self.now_s)
            result = self._execute(command, user, min(ATTEMPT_S, left))
            if result.status == 0:
                return result.stdout.decode("utf-8", "replace")
            self.now_s += 0.5
            if self.now_s >= deadline:
                self._state = MachineState.BROKEN
                raise GuestTimeout(
                    f"{command!r} needed to succeed within {timeout_s:g} s,"
                    f" last found status {result.status}"
                )

    def put(self, path: str, data: bytes, mode: int = 0o644, owner: str = "root") -> None:
        self._enter("put", *RUNNING)
        self._store(path, FakeFile(data, mode, owner))

    def _store(self, path: str, content: bytes | str | FakeFile) -> None:
        make_folders(self.files, str(Path(path).parent))
        data = content.encode() if isinstance(content, str) else content
        self.files[path] = data if isinstance(data, FakeFile) else FakeFile(data)

    def get(self, path: str, max_bytes: int = 1 << 20) -> bytes:
        self._enter("get", *RUNNING)
        found = self.files.get(path)
        if found is None or found.folder:
            raise GuestError(f"needed a file {path!r}, found {'a folder' if found else 'none'}")
        return found.data[:max_bytes]

    def run_python(
        self, source: str, args: Mapping[str, object] | None = None, timeout_s: float = 10.0
    ) -> Any:
        """Run `main(**args)` in a Python process of its own, where `open` reads the fake's files
        and nothing else is there.
        """
        self._enter("run_python", *RUNNING)
        files = {path: file.data for path, file in self.files.items() if not file.folder}
        return SERVER.run(source, args or {}, files, timeout_s)

    def processes(self) -> tuple[Process, ...]:
        self._enter("processes", *RUNNING)
        return self._processes()

    def _processes(self) -> tuple[Process, ...]:
        return tuple(
            Process(
                pid=pid, ppid=0 if pid == 1 else 1, uid=_uid(user), comm=name[:15],
                cmdline=(name,), exe=f"/usr/bin/{name}", state="S", start_s=0.0, cpu_s=0.0,
                cgroup="/init.scope" if pid == 1 else "/user.slice",
            )
            for pid, (user, name) in sorted(self.processes_alive.items())
        )  # fmt: skip

    def units(self) -> dict[str, tuple[int, ...]]:
        self._enter("units", *RUNNING)
        return self._groups()

    def _groups(self) -> dict[str, tuple[int, ...]]:
        return {"fake-desktop.service": (40,)} if 40 in self.processes_alive else {}

    def survey(self) -> Survey:
        self._enter("survey", *RUNNING)
        root = Mount(path="/", kind="ext4", source="/dev/fake", root="/", options=("rw",))
        return Survey(processes=self._processes(), groups=self._groups(), mounts=(root,))

    def log(
        self,
        source: str,
        data: dict[str, Any],
        uid: int = 0,
        pid: int = -1,
        writer: Writer | None = None,
    ) -> None:
        """Append a line to the host's journal, as an app (`source` "app:<name>") or the kernel
        would; `writer` is known of what comes over an app's connection.
        """
        entry = JournalEntry(
            seq=len(self._journal),
            t_host=self.now_s,
            t_guest=self.now_s,
            source=source,
            uid=uid,
            pid=pid,
            data=data,
            writer=writer,
        )
        self._journal.append(entry)

    def journal(self) -> tuple[JournalEntry, ...]:
        return tuple(self._journal)

    def sync(self) -> None:
        self._enter("sync", *RUNNING)

    def disk_view(self) -> MemoryView:
        self._enter("disk_view", *STILL)
        nodes = {}
        for path, file in sorted(self.files.items()):
            uid = _uid(file.owner)
            kind: FileKind = "dir" if file.folder else "file"
            nodes[path] = Node(data=file.data, kind=kind, mode=file.mode, uid=uid, gid=uid)
        return MemoryView(nodes)

    def unplugged(self) -> tuple[str, ...]:
        return ()

    def disk_chain(self) -> tuple[Path, ...]:
        return ()


def _uid(user: str) -> int:
    return 0 if user == "root" else 1000


def _cut(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    head, tail = text[: max_chars // 2], text[-max_chars // 2 :]
    lines = text.count("\n") - head.count("\n") - tail.count("\n")
    return f"{head}\n[... {lines} lines cut ...]\n{tail}"


@functools.lru_cache(maxsize=1)
def _desktop() -> Screenshot:
    """Background, panel and an empty terminal window."""
    screen = np.full((SCREEN_HEIGHT, SCREEN_WIDTH, 3), (52, 84, 112), np.uint8)
    screen[:28] = (40, 40, 44)
    screen[60:84, 60:980] = (90, 90, 98)
    screen[84:700, 60:980] = (18, 18, 22)
    return screen


@functools.lru_cache(maxsize=8)
def _picture(lines: tuple[str, ...]) -> Screenshot:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(_desktop())
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(16)
    for row, line in enumerate(lines):
        draw.text(
            (68, 92 + 21 * row),
            line.encode("ascii", "replace").decode(),
            font=font,
            fill=(220, 220, 220),
        )
    return np.asarray(image)


def _draw(lines: tuple[str, ...], pointer: tuple[int, int]) -> Screenshot:
    screen = _picture(lines).copy()
    x, y = pointer
    screen[y : y + 14, x : x + 3] = 255
    screen[y : y + 3, x : x + 9] = 255
    return screen

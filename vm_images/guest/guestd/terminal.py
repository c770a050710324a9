"""The terminal of the desktop: type a command, know when it has ended, read what it showed.

A command has ended when the prompt hook of bash (etc/harmgym-bashrc) has reported its status *and* the shell is seen waiting
at its prompt: it leads the foreground of the terminal, sleeps, and has switched line editing on. Where there is no hook
(another shell, a Python prompt, an editor, a password) the terminal counts as waiting for input when it has been quiet and
whoever is in the foreground reads from it.

Operations are generators that yield the time at which they want to be woken; anything that happens wakes them too.
"""

from __future__ import annotations

import os
import pwd
import select
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

import procfs
from port import Loop, monotonic
from tmux import Reply, Tmux, quote

T = TypeVar("T")
Wait = Generator[float, None, T]

MAX_COMMAND = 32768
_ENTER = "\r"
_ENSURE_S = 8.0
_ROWS = 1200  # rows read from either end of a long output
_FORMAT = (
    "#{pane_active} #{pane_pid} #{pane_tty} #{pid}"
    " #{history_size} #{history_limit} #{cursor_x} #{cursor_y} #{pane_height} #{alternate_on}"
    " #{alternate_on}#{insert_flag}#{keypad_flag}#{keypad_cursor_flag}#{origin_flag}#{wrap_flag}#{mouse_any_flag}#{cursor_flag}"
    ",#{scroll_region_upper},#{scroll_region_lower} #{pane_path}"
)
# Leave the alternate screen, insert mode, keypad modes, mouse reports; wrap; show the cursor; scroll the whole screen.
_RESET = b"\x1b7\x1b[?47l\x1b[4l\x1b>\x1b[?1l\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?6l\x1b[?7h\x1b[?25h\x1b[r\x1b8"
# `exit` gives a fresh shell in the same window instead of closing it.
# (window-size cannot be in tmux.conf: tmux 3.3 crashes when it starts a session with it.)
_SESSION_OPTIONS = ("set-option -g remain-on-exit on", "set-hook -g pane-died respawn-pane", "set-option -g window-size manual")
_READERS = (b"wait_woken", b"n_tty_read")  # where the kernel keeps whoever reads a line from a terminal
_RELAYS = ("sudo", "su")  # they switch the terminal to raw while they relay a command's output
_SHELLS = ("bash", "sh", "dash", "zsh", "fish", "ksh")


class TerminalError(Exception):
    """The terminal cannot take this."""


class Unavailable(TerminalError):
    """The terminal cannot be reached: tmux or the shell has been ended or broken, which the agent is free to do."""


class View(NamedTuple):
    """Where the terminal stands, as tmux says."""

    pane_pid: int
    tty: str
    server_pid: int
    history: int
    limit: int
    x: int
    y: int
    height: int
    alternate: bool
    modes: str
    path: str

    @classmethod
    def parse(cls, reply: Reply) -> View:
        if reply.error or not reply.lines:
            raise Unavailable(b" ".join(reply.lines).decode(errors="replace") or "tmux is gone")
        active = next((line for line in reply.lines if line.startswith(b"1 ")), b"")
        fields = active.decode(errors="replace").split(" ", 11)
        if len(fields) != 12:
            raise Unavailable("tmux does not say where the terminal stands")
        _active, pane, tty, server, *numbers, alternate, modes, path = fields
        history, limit, x, y, height = map(int, numbers)
        return cls(int(pane), tty, int(server), history, limit, x, y, height, alternate == "1", modes, path)

    def normal(self) -> bool:
        """Whether the screen is in the modes in which a shell expects it."""
        return self.modes == f"00000101,0,{self.height - 1}"


class End(NamedTuple):
    """How a command ended: "prompt", "other prompt" (a shell without the hook), "input" (somebody waits for it), "deadline"."""

    how: str
    view: View
    shell: int = 0


class Task:
    """One running operation."""

    __slots__ = ("done", "steps", "wake_at")

    def __init__(self, steps: Wait[Any], done: Callable[[Any, Exception | None], None]) -> None:
        self.steps, self.done, self.wake_at = steps, done, 0.0


class Terminal:
    """The operations on the terminal window, for the daemon."""

    def __init__(self, loop: Loop, run_dir: str, label: str, user: pwd.struct_passwd, shell: str | None = None) -> None:
        self._loop, self._new_shell = loop, shell
        self.tmux = Tmux(loop, label, "main", user, self._wake)
        # It costs the server half of what display-message would.
        self._look_command = f"list-panes -t {self.tmux.target} -F {quote(_FORMAT)}"
        self._tasks: list[Task] = []
        self._timer: list[Any] | None = None
        self._stepping = self._again = False
        self._busy = False
        self._reported = 0
        self._device = "", -1  # of the terminal that was last asked for
        self._view: View | None = None
        self._prompts: dict[int, tuple[int, int]] = {}  # who reported a prompt since the last typing: pid -> status, count
        self._hooked = 0  # the last shell whose prompt ended a command
        self._pipe = self._open_pipe(f"{run_dir}/prompt")
        loop.watch(self._pipe, select.EPOLLIN, lambda _events: self._read_pipe())

    @staticmethod
    def _open_pipe(path: str) -> int:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        os.mkfifo(path)
        os.chmod(path, 0o666)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    # Tasks

    def start(self, steps: Wait[Any], done: Callable[[Any, Exception | None], None]) -> None:
        """Run an operation; `done(result, error)` is called at its end."""
        self._tasks.append(Task(steps, done))
        self._wake()

    def _wake(self) -> None:
        """Step every task, again if stepping them woke them; then set the timer for the earliest."""
        if self._stepping:
            self._again = True
            return
        self._stepping = self._again = True
        while self._again:
            self._again = False
            for task in list(self._tasks):
                self._step(task)
        self._stepping = False
        self._loop.cancel(self._timer)
        self._timer = None
        if self._tasks:
            self._timer = self._loop.call_at(min(task.wake_at for task in self._tasks), self._wake)

    def _step(self, task: Task) -> None:
        result, error = None, None
        try:
            task.wake_at = next(task.steps)
            return
        except StopIteration as stop:
            result = stop.value
        except Exception as err:  # every failure of an operation is its reply
            error = err
        self._tasks.remove(task)
        task.done(result, error)

    def _read_pipe(self) -> None:
        try:
            data = os.read(self._pipe, 65536)
        except BlockingIOError:
            return
        for line in data.splitlines()[-64:]:
            words = line.split()
            if len(words) == 3 and all(word.isdigit() and len(word) < 10 for word in words):
                status, pid, count = map(int, words)
                self._prompts.pop(pid, None)
                self._prompts[pid] = status, count
        while len(self._prompts) > 64:
            del self._prompts[next(iter(self._prompts))]
        self._reported += 1
        self._wake()

    # What the kernel says

    def _prompt(self, tty: str) -> int | None:
        """Return the shell that has reported a prompt and waits at it on the terminal `tty`; None when there is none.

        A shell in another window reports its prompts as well, so the terminal is compared. A shell between two commands of a
        pasted block has reported too: it sleeps at most in `wait` or `read`, with line editing off.
        """
        if tty != self._device[0]:
            self._device = tty, procfs.terminal_device(tty)
        for pid in reversed(self._prompts):
            fields = procfs.stat_fields(pid)
            if (
                fields
                and fields[0] == b"S"
                and fields[2] == fields[5]
                and int(fields[4]) == self._device[1]
                and not procfs.terminal_modes(tty)[0]
            ):
                return pid
        return None

    def _foreground(self, view: View) -> int:
        """Return the process that leads the terminal's foreground, -1 when it is gone."""
        fields = procfs.stat_fields(view.pane_pid)
        return int(fields[5]) if fields else -1

    def _reads(self, view: View) -> bool:
        """Whether whoever is in the foreground waits for input from the terminal."""
        leader = self._foreground(view)
        fields = procfs.stat_fields(leader) if leader > 0 else []
        if not fields or fields[0] != b"S":
            return False
        by_line, echo = procfs.terminal_modes(view.tty)
        if by_line and not echo:
            return True
        if not by_line:
            return procfs.comm(leader) not in _RELAYS
        # Who waits for the network waits at the same place of the kernel: a mail client is not to be taken for a question.
        return procfs.read_at(procfs.PROC, f"{leader}/wchan", 64) in _READERS and not procfs.has_socket(leader)

    # Talking to tmux

    def _ask(self, *commands: str) -> Wait[list[Reply]]:
        replies = self.tmux.send(*commands)
        deadline = monotonic() + 10.0
        while not replies[-1].done:
            if monotonic() >= deadline:
                self.tmux.detach()
                raise Unavailable("tmux did not answer within 10 s")
            yield deadline
        return replies

    def _look(self) -> Wait[View]:
        replies = yield from self._ask(self._look_command)
        self._view = View.parse(replies[0])
        return self._view

    def _ensure(self) -> Wait[None]:
        """Attach to the session; start it when nobody else does so within 3 s."""
        began = monotonic()
        started = False
        while not self.tmux.attached:
            now = monotonic()
            if now - began > _ENSURE_S:
                raise Unavailable(f"its tmux session cannot be reached or started within {_ENSURE_S:g} s")
            if not self.tmux.alive:
                if not started and now - began > 3.0:
                    started = True
                    self.tmux.start_session(self._new_shell)
                self.tmux.attach()
            wake = monotonic() + 0.1
            while not self.tmux.attached and (self.tmux.alive or monotonic() < wake) and monotonic() - began < _ENSURE_S:
                yield max(wake, monotonic() + 0.02)
            if self.tmux.attached:
                yield from self._ask(*_SESSION_OPTIONS)

    # Operations

    def warm(self) -> Wait[None]:
        """Attach once, if the session is there already."""
        if not self.tmux.alive:
            self.tmux.attach()
        while self.tmux.alive and not self.tmux.attached:
            yield monotonic() + 10.0
        if self.tmux.attached:
            yield from self._ask(*_SESSION_OPTIONS)
            yield from self._look()

    def terminal(self, max_chars: int = 16000) -> Wait[dict[str, Any]]:
        """Return what the window shows."""
        for last in (False, True):
            try:
                yield from self._ensure()
                if self._view is not None:
                    yield from self._follow(self._view)
                (reply,) = yield from self._ask(f"capture-pane -p -t {self.tmux.target}")
            except Unavailable as err:
                return {"text": _unavailable(err), "truncated": False}
            if not reply.error or last:
                break
        text, truncated = cut(trim(reply.text()), [], 0, max_chars)
        return {"text": text, "truncated": truncated}

    def interrupt(self) -> Wait[dict[str, Any]]:
        """Press Ctrl-C."""
        yield from self._ensure()
        yield from self._ask(f"send-keys -t {self.tmux.target} C-c")
        return {}

    def wait_terminal(self, quiet_ms: float = 150.0, cap_ms: float = 1000.0) -> Wait[dict[str, Any]]:
        """Wait until the shell is at its prompt or the terminal is quiet, at most `cap_ms`."""
        yield from self._ensure()
        view = yield from self._look()
        began = monotonic()
        quiet = Quiet(view.server_pid)
        while True:
            still = quiet.seconds()
            if still >= quiet_ms / 1000 or (still >= 0.02 and self._prompt(view.tty) is not None):
                return {"idle": True, "seconds": monotonic() - began}
            if monotonic() - began >= cap_ms / 1000:
                return {"idle": False, "seconds": monotonic() - began}
            yield monotonic() + 0.01

    def shell(self, command: str, timeout_s: float = 30.0, max_chars: int = 16000) -> Wait[dict[str, Any]]:
        """Type `command` and Enter, wait for its end, return its status and what the terminal showed since."""
        check_command(command)
        if self._busy:
            raise TerminalError("another command is being typed")
        self._busy = True
        began = monotonic()
        try:
            return (yield from self._shell(command, timeout_s, max_chars))
        except Unavailable as err:
            return (yield from self._after_loss(err, began, max_chars))
        finally:
            self._busy = False

    def _after_loss(self, err: Unavailable, began: float, max_chars: int) -> Wait[dict[str, Any]]:
        """The terminal went away while a command ran in it: start it again and show that."""
        found = yield from self.terminal(max_chars)
        if self.tmux.attached:
            yield from self._look()
        note = "[harmgym: the terminal had been ended; a new one was started]"
        notes = [note] if self.tmux.attached else []
        return {
            "status": None,
            "finished": self.tmux.attached,
            "interrupted": False,
            "text": "\n".join([found["text"], *notes]).lstrip("\n"),
            "truncated": found["truncated"],
            "terminal_restarted": self.tmux.attached,
            "seconds": monotonic() - began,
        }

    def _shell(self, command: str, timeout_s: float, max_chars: int) -> Wait[dict[str, Any]]:
        yield from self._ensure()
        known, began = self._view, monotonic()
        if known is not None:
            yield from self._follow(known)
        before = yield from self._type(command)
        end = yield from self._wait_end(before, began + timeout_s)
        notes, interrupted = [], end.how == "deadline"
        if interrupted:
            end = yield from self._break(before)
            rest = ", which did not end it" if end.how == "deadline" else ""
            notes.append(f"[harmgym: still running after {timeout_s:g} s; sent Ctrl-C{rest}]")
        elif end.how == "input":
            notes.append("[harmgym: not back at the prompt; the program in the terminal waits for input]")
        restarted = end.view.pane_pid != before.pane_pid
        if restarted or (known is not None and known.pane_pid != before.pane_pid):
            notes.append("[harmgym: the terminal's shell had ended; a new one was started]")
        text, truncated = yield from self._since(before, end.view, max_chars)
        if end.how == "prompt":
            self._hooked = end.shell
            if not end.view.normal():
                self._reset_screen(end.view.tty)
        return {
            "status": self._prompts[end.shell][0] if end.how == "prompt" and not restarted else None,
            "finished": end.how in ("prompt", "other prompt"),
            "interrupted": interrupted,
            "text": "\n".join([text, *notes]) if text else "\n".join(notes),
            "truncated": truncated,
            "terminal_restarted": restarted,
            "seconds": monotonic() - began,
        }

    def _type(self, command: str) -> Wait[View]:
        """Type `command` and Enter in one message; return where the terminal stood just before."""
        target = self.tmux.target
        if "\n" in command or "\t" in command:  # as one paste: no prompt in between, a tab does not complete
            keys = [f"set-buffer -b harmgym -- {quote(command)}", f"paste-buffer -d -p -b harmgym -t {target}"]
            keys += [f"send-keys -t {target} Enter"]
        else:
            keys = [f"send-keys -l -t {target} -- {quote(command + _ENTER)}"]
        clear = self._view is not None and self._view.history > self._view.limit // 2
        # `copy-mode -q` leaves tmux's own modes, which would take the keys for theirs.
        commands = [f"copy-mode -q -t {target}", *([f"clear-history -t {target}"] if clear else [])]
        looked = len(commands)
        commands += [self._look_command, *keys]
        self._read_pipe()
        self._prompts.clear()
        replies = yield from self._ask(*commands)
        self._view = View.parse(replies[looked])
        if any(reply.error for reply in replies):
            raise TerminalError("tmux refused the keys")
        return self._view

    def _wait_end(self, view: View, deadline: float) -> Wait[End]:
        """Wait until the shell is at its prompt, somebody waits for input, or the deadline has passed."""
        quiet: Quiet | None = None
        seen, reported_at, pause, check_at, look_at = -1, 0.0, 0.0, 0.0, monotonic() + 0.075
        while True:
            now = monotonic()
            if self._prompts and self._reported != seen:  # give the shell a moment to draw its prompt
                seen, reported_at, pause = self._reported, now, 0.0015
                check_at = now + pause
            elif self._prompts and now >= check_at:
                shell = yield from self._drawn(view.tty, now - reported_at, sure=pause < 0.002)
                if shell is not None and self._view is not None:
                    return End("prompt", self._view, shell)
                pause = min(pause * 2, 0.05)
                check_at = monotonic() + pause
            if now >= deadline:
                return End("deadline", (yield from self._look()))
            if now >= look_at:
                look_at = now + 0.075
                view = yield from self._follow(view)
                quiet = quiet or Quiet(view.server_pid)
                if quiet.seconds() >= 0.075 and self._reads(view):
                    return End(self._kind_of_prompt(view), (yield from self._look()))
            yield min(deadline, look_at, check_at if self._prompts else deadline)

    def _drawn(self, tty: str, since_s: float, sure: bool) -> Wait[int | None]:
        """Return the shell that waits at a prompt which tmux shows, with all output before it.

        A shell waits at its prompt while its output may still be on its way to tmux: the hook has put a number behind it, that
        tmux shows as pane_path. The prompt follows in the same breath; one that is empty is waited for in vain, 50 ms. `sure`
        saves asking the kernel before asking tmux; else the shell may be in the next command of a pasted block.
        """
        if not sure and self._prompt(tty) is None:
            return None
        view = yield from self._look()
        shell = self._prompt(view.tty)
        if shell is None or (view.x == 0 and since_s < 0.05):
            return None
        arrived = view.path == f"{shell}.{self._prompts[shell][1]}"
        return shell if arrived or since_s >= 5.0 else None

    def _follow(self, view: View) -> Wait[View]:
        """Look again when the terminal's shell has ended and another took its place; start one when none did."""
        if procfs.alive(view.pane_pid) and self.tmux.attached:
            return view
        yield from self._ensure()
        view = yield from self._look()
        if not procfs.alive(view.pane_pid):  # tmux 3.3 sometimes misses the end of a shell, and leaves the pane dead
            yield from self._ask(f"respawn-pane -t {self.tmux.target}")
            view = yield from self._look()
        return view

    def _kind_of_prompt(self, view: View) -> str:
        leader = self._foreground(view)
        if leader != self._hooked and procfs.comm(leader) in _SHELLS:
            return "other prompt"
        return "input"

    def _break(self, view: View) -> Wait[End]:
        """Press Ctrl-C, then Ctrl-\\; return how that ended."""
        for key in ("C-c", "C-\\\\"):
            yield from self._ask(f"send-keys -t {self.tmux.target} {key}")
            end = yield from self._wait_end(view, monotonic() + 1.0)
            if end.how != "deadline":
                break
        return end

    def _since(self, before: View, after: View, max_chars: int) -> Wait[tuple[str, bool]]:
        """Return what the terminal showed since `before`, and whether something was cut."""
        last, lost = after.y, False
        if after.alternate:
            first, last = 0, after.height - 1
        elif after.pane_pid != before.pane_pid:
            first = 0
        else:
            lost = after.history >= after.limit * 0.9 - 1 and after.history > before.history
            first = -after.history if lost else max(before.history + before.y - after.history, -after.history)
            first = 0 if first > last else first
        rows = last - first + 1
        capture = f"capture-pane -p -J -t {self.tmux.target}"
        if rows <= 2 * _ROWS:
            (reply,) = yield from self._ask(f"{capture} -S {first} -E {last}")
            head, tail, missing = reply.text(), [], 0
        else:
            replies = yield from self._ask(
                f"{capture} -S {first} -E {first + _ROWS - 1}", f"{capture} -S {last - _ROWS + 1} -E {last}"
            )
            head, tail, missing = replies[0].text(), replies[1].text(), rows - 2 * _ROWS
        if lost:  # the terminal keeps only so much: the beginning is gone, so show the end
            head, tail, missing = [], tail or head, max(missing, 1) + len(head) if tail else 1
        return cut(head if tail else trim(head), trim(tail), missing, max_chars, "more than " if lost else "")

    @staticmethod
    def _reset_screen(tty: str) -> None:
        """Put the screen's modes right, as if the shell had printed the sequences; what it shows stays."""
        fd = procfs.open_terminal(tty)
        if fd >= 0:
            try:
                os.write(fd, _RESET)
            except BlockingIOError:
                pass
            finally:
                os.close(fd)


class Quiet:
    """How long the tmux server has read nothing: neither output of the terminal nor keys."""

    def __init__(self, server_pid: int) -> None:
        self._pid = server_pid
        self._read, self._since = procfs.bytes_read(server_pid), monotonic()

    def seconds(self) -> float:
        """Return the seconds since something was last read, seen from the calls of this method.

        A server that does not sleep has more to read: on a busy computer it may only not have had its turn.
        """
        asleep = procfs.stat_fields(self._pid)[:1] in ([b"S"], [])
        read, now = procfs.bytes_read(self._pid), monotonic()
        if read != self._read or not asleep:
            self._read, self._since = read, now
        return now - self._since


def check_command(command: str) -> None:
    """Raise TerminalError when `command` cannot be typed as it stands."""
    if not isinstance(command, str):
        raise TerminalError(f"needed a command of type str, found {type(command).__name__}")
    if len(command) > MAX_COMMAND:
        raise TerminalError(f"a command may have {MAX_COMMAND} characters, found {len(command)}")
    for character in command:
        if (character < " " and character not in "\n\t") or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff":
            raise TerminalError(f"the command contains {character!r}, which cannot be typed; use keys for control characters")


def _unavailable(err: Unavailable) -> str:
    return f"[harmgym: the terminal cannot be reached: {err}]"


def trim(lines: list[str]) -> list[str]:
    """Return `lines` without the empty ones at the end."""
    end = len(lines)
    while end and not lines[end - 1]:
        end -= 1
    return lines[:end]


def cut(head: list[str], tail: list[str], missing: int, max_chars: int, about: str = "") -> tuple[str, bool]:
    """Join head and tail; cut in the middle, with a line that says how much, when lines are missing or it gets too long."""
    first, last = "\n".join(head), "\n".join(tail)
    if not missing:
        whole = f"{first}\n{last}" if tail else first
        if len(whole) <= max_chars:
            return whole, False
        first = last = whole
    room = max(0, (max_chars - 40) // (2 if head else 1))
    kept_first, kept_last = _front(first, room), _back(last, room)
    if missing:
        lines = missing + first[len(kept_first) :].count("\n") + last[: len(last) - len(kept_last)].count("\n")
    else:
        lines = first[len(kept_first) : len(first) - len(kept_last)].count("\n") - 1
    what = f"{lines} lines" if lines > 0 else f"{len(first) - len(kept_first) - len(kept_last)} characters"
    return "\n".join(part for part in (kept_first, f"[... {about}{what} cut ...]", kept_last) if part), True


def _front(text: str, room: int) -> str:
    """Return at most `room` characters from the front, whole lines where the last one is not long."""
    if len(text) <= room:
        return text
    end = text.rfind("\n", max(0, room - 400), room + 1)
    return text[: end if end > 0 else room]


def _back(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    start = text.find("\n", len(text) - room - 1, len(text) - room + 400)
    return text[start + 1 if start >= 0 else len(text) - room :]

"""The terminal of the desktop: type a command, know when it has ended, read what it showed.

A command has ended when the prompt hook of bash (etc/harmgym-bashrc) has reported its status *and*
the shell is seen waiting at its prompt: it leads the foreground of the terminal, sleeps, and has
switched line editing on. Where there is no hook (another shell, a Python prompt, an editor, a
password) the terminal counts as waiting for input when it has been quiet and whoever is in the
foreground reads from it.
"""

from __future__ import annotations

import os
import pwd
import signal
from typing import Any

import procfs
from port import Loop, monotonic
from prompts import Prompts
from tasks import Tasks, Wait
from text import TerminalError, check_command, cut, trim
from tmux import Reply, Tmux, quote
from view import FORMAT, End, Quiet, Unavailable, View

_ENTER = "\r"
_ENSURE_S = 15.0
_ROWS = 1200  # rows read from either end of a long output
# Leave the alternate screen, insert mode, keypad modes, mouse reports; wrap; show the cursor;
# scroll the whole screen.
_RESET = (
    b"\x1b7\x1b[?47l\x1b[4l\x1b>\x1b[?1l\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?6l\x1b[?7h"
    b"\x1b[?25h\x1b[r\x1b8"
)
# `exit` gives a fresh shell in the same window instead of closing it.
# (window-size cannot be in tmux.conf: tmux 3.3 crashes when it starts a session with it.)
_SESSION_OPTIONS = (
    "set-option -g remain-on-exit on",
    "set-hook -g pane-died respawn-pane",
    "set-option -g window-size manual",
)
_SHELLS = ("bash", "sh", "dash", "zsh", "fish", "ksh")


class Terminal:
    """The operations on the terminal window, for the daemon."""

    def __init__(
        self,
        loop: Loop,
        run_dir: str,
        label: str,
        user: pwd.struct_passwd,
        shell: str | None = None,
    ) -> None:
        self._new_shell = shell
        self._tasks = Tasks(loop)
        self.start = self._tasks.start
        self._prompts = Prompts(loop, run_dir, self._tasks.wake)
        self.tmux = Tmux(loop, label, "main", user, self._tasks.wake)
        # It costs the server half of what display-message would.
        self._look_command = f"list-panes -t {self.tmux.target} -F {quote(FORMAT)}"
        self._busy = False
        self._view: View | None = None
        self._hooked = 0  # the last shell whose prompt ended a command

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
        start_at = began + 3.0
        while not self.tmux.attached:
            now = monotonic()
            if now - began > _ENSURE_S:
                raise Unavailable(
                    f"its tmux session cannot be reached or started within {_ENSURE_S:g} s"
                )
            if not self.tmux.alive:
                if now >= start_at:
                    start_at = now + 4.0
                    self.tmux.start_session(self._new_shell)
                self.tmux.attach()
            yield from self._attaching(now)
            if self.tmux.attached:
                yield from self._ask(*_SESSION_OPTIONS)
                if self._view is not None:
                    yield from self._new_shell_ready()

    def _attaching(self, began: float) -> Wait[None]:
        """Wait until the client has attached or has ended; end a server that does not answer within
        6 s (a stopped one).
        """
        while self.tmux.alive and not self.tmux.attached:
            if monotonic() - began > 6.0:
                if self._view is not None and procfs.comm(self._view.server_pid).startswith("tmux"):
                    os.kill(self._view.server_pid, signal.SIGKILL)
                self.tmux.detach()
            yield began + 6.1
        while not self.tmux.attached and monotonic() < began + 0.2:
            yield began + 0.2

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

    def wait_terminal(
        self, quiet_ms: float = 150.0, cap_ms: float = 1000.0
    ) -> Wait[dict[str, Any]]:
        """Wait until the shell is at its prompt or the terminal is quiet, at most `cap_ms`."""
        yield from self._ensure()
        view = yield from self._look()
        began = monotonic()
        quiet = Quiet(view.server_pid)
        while True:
            still = quiet.seconds()
            if still >= quiet_ms / 1000 or (
                still >= 0.02 and self._prompts.shell(view) is not None
            ):
                return {"idle": True, "seconds": monotonic() - began}
            if monotonic() - began >= cap_ms / 1000:
                return {"idle": False, "seconds": monotonic() - began}
            yield monotonic() + 0.01

    def shell(
        self, command: str, timeout_s: float = 30.0, max_chars: int = 16000
    ) -> Wait[dict[str, Any]]:
        """Type `command` and Enter, wait for its end, return its status and what the terminal
        showed since.
        """
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
            notes.append(
                "[harmgym: not back at the prompt; the program in the terminal waits for input]"
            )
        restarted = end.view.pane_pid != before.pane_pid
        if restarted or (known is not None and known.pane_pid != before.pane_pid):
            notes.append("[harmgym: the terminal's shell had ended; a new one was started]")
        text, truncated = yield from self._since(before, end.view, max_chars)
        if end.how == "prompt":
            self._hooked = end.shell
            if not end.view.normal():
                self._reset_screen(end.view.tty)
        return {
            "status": self._prompts.status_of[end.shell][0]
            if end.how == "prompt" and not restarted
            else None,
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
        if (
            "\n" in command or "\t" in command
        ):  # as one paste: no prompt in between, a tab does not complete
            keys = [
                f"set-buffer -b harmgym -- {quote(command)}",
                f"paste-buffer -d -p -b harmgym -t {target}",
            ]
            keys += [f"send-keys -t {target} Enter"]
        else:
            keys = [f"send-keys -l -t {target} -- {quote(command + _ENTER)}"]
        clear = self._view is not None and self._view.history > self._view.limit // 2
        # `copy-mode -q` leaves tmux's own modes, which would take the keys for theirs.
        commands = [f"copy-mode -q -t {target}", *([f"clear-history -t {target}"] if clear else [])]
        looked = len(commands)
        commands += [self._look_command, *keys]
        self._prompts.clear()
        replies = yield from self._ask(*commands)
        self._view = View.parse(replies[looked])
        if any(reply.error for reply in replies):
            raise TerminalError("tmux refused the keys")
        return self._view

    def _wait_end(self, view: View, deadline: float) -> Wait[End]:
        """Wait until the shell is at its prompt, somebody waits for input, or the deadline has
        passed.
        """
        quiet: Quiet | None = None
        seen, reported_at, pause, check_at, look_at = -1, 0.0, 0.0, 0.0, monotonic() + 0.075
        while True:
            now = monotonic()
            if (
                self._prompts.status_of and self._prompts.count != seen
            ):  # give the shell a moment to draw its prompt
                seen, reported_at, pause = self._prompts.count, now, 0.0015
                check_at = now + pause
            elif self._prompts.status_of and now >= check_at:
                shell = yield from self._drawn(view, now - reported_at, sure=pause < 0.002)
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
                if quiet.seconds() >= 0.075 and self._prompts.waited_for(view):
                    return End(self._kind_of_prompt(view), (yield from self._look()))
            yield min(deadline, look_at, check_at if self._prompts.status_of else deadline)

    def _drawn(self, view: View, since_s: float, sure: bool) -> Wait[int | None]:
        """Return the shell that waits at a prompt which tmux shows, with all output before it.

        A shell waits at its prompt while its output may still be on its way to tmux: the hook has
            put a number behind it, that tmux shows as pane_path. The prompt follows in the same
            breath; one that is empty is waited for in vain, 50 ms. `sure` saves asking the kernel
            before asking tmux; else the shell may be in the next command of a pasted block.
        """
        if not sure and self._prompts.shell(view) is None:
            return None
        view = yield from self._look()
        shell = self._prompts.shell(view)
        if shell is None or (view.x == 0 and since_s < 0.05):
            return None
        arrived = view.path == f"{shell}.{self._prompts.status_of[shell][1]}"
        return shell if arrived or since_s >= 5.0 else None

    def _follow(self, view: View) -> Wait[View]:
        """Look again when the terminal's shell has ended and another took its place; start one when
        none did.
        """
        if procfs.alive(view.pane_pid) and self.tmux.attached:
            return view
        yield from self._ensure()
        view = yield from self._look()
        if not procfs.alive(
            view.pane_pid
        ):  # tmux 3.3 sometimes misses the end of a shell, and leaves the pane dead
            yield from self._ask(f"respawn-pane -t {self.tmux.target}")
        return (yield from self._new_shell_ready())

    def _new_shell_ready(self) -> Wait[View]:
        """Wait until a shell that was just started is at its prompt, at most 5 s; keys before it
        would show twice.
        """
        deadline = monotonic() + 5.0
        while True:
            view = yield from self._look()
            if (self._prompts.shell(view) is not None and view.x > 0) or monotonic() >= deadline:
                return view
            yield min(deadline, monotonic() + 0.05)

    def _kind_of_prompt(self, view: View) -> str:
        members = self._prompts.foreground(view)[1]
        if len(members) == 1 and members[0] != self._hooked and procfs.comm(members[0]) in _SHELLS:
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
            first = (
                -after.history
                if lost
                else max(before.history + before.y - after.history, -after.history)
            )
            first = 0 if first > last else first
        rows = last - first + 1
        capture = f"capture-pane -p -J -t {self.tmux.target}"
        if rows <= 2 * _ROWS:
            (reply,) = yield from self._ask(f"{capture} -S {first} -E {last}")
            head, tail, missing = reply.text(), [], 0
        else:
            replies = yield from self._ask(
                f"{capture} -S {first} -E {first + _ROWS - 1}",
                f"{capture} -S {last - _ROWS + 1} -E {last}",
            )
            head, tail, missing = replies[0].text(), replies[1].text(), rows - 2 * _ROWS
        if lost:  # the terminal keeps only so much: the beginning is gone, so show the end
            head, tail, missing = [], tail or head, max(missing, 1) + len(head) if tail else 1
        return cut(
            head if tail else trim(head),
            trim(tail),
            missing,
            max_chars,
            "more than " if lost else "",
        )

    @staticmethod
    def _reset_screen(tty: str) -> None:
        """Put the screen's modes right, as if the shell had printed the sequences; what it shows
        stays.
        """
        fd = procfs.open_terminal(tty)
        if fd >= 0:
            try:
                os.write(fd, _RESET)
            except BlockingIOError:
                pass
            finally:
                os.close(fd)


def _unavailable(err: Unavailable) -> str:
    return f"[harmgym: the terminal cannot be reached: {err}]"

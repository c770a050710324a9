"""Who is at the prompt of a terminal, and whether somebody waits for input there: what the prompt
hook and the kernel say.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

import procfs
from port import Loop
from view import View

_READERS = (
    b"wait_woken",
    b"n_tty_read",
)  # where the kernel keeps whoever reads a line from a terminal
_RELAYS = ("sudo", "su")  # they switch the terminal to raw while they relay a command's output


class Prompts:
    """The reports of the prompt hook (etc/harmgym-bashrc): "status pid count" a line, through a
    pipe in `run_dir`.

    `status_of` holds who reported since `clear`: pid -> (status, count); `count` is the number of
    reports ever.
    """

    def __init__(self, loop: Loop, run_dir: str, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.status_of: dict[int, tuple[int, int]] = {}
        self.count = 0
        self._device = "", -1  # of the terminal that was last asked for
        self._pipe = self._open_pipe(f"{run_dir}/prompt")
        loop.watch(self._pipe, select.EPOLLIN, lambda _events: self.read())

    @staticmethod
    def _open_pipe(path: str) -> int:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        os.mkfifo(path)
        os.chmod(path, 0o666)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def read(self) -> None:
        """Take the reports that have come."""
        try:
            data = os.read(self._pipe, 65536)
        except BlockingIOError:
            return
        for line in data.splitlines()[-64:]:
            words = line.split()
            if len(words) == 3 and all(word.isdigit() and len(word) < 10 for word in words):
                status, pid, count = map(int, words)
                self.status_of.pop(pid, None)
                self.status_of[pid] = status, count
        while len(self.status_of) > 64:
            del self.status_of[next(iter(self.status_of))]
        self.count += 1
        self._wake()

    def clear(self) -> None:
        """Forget the reports so far: a command is about to be typed."""
        self.read()
        self.status_of.clear()

    def shell(self, view: View) -> int | None:
        """Return the shell that has reported a prompt and waits at it on the terminal; None when
        there is none.

        A shell in another window reports its prompts as well, so the terminal is compared (sudo
        gives its command one of its own inside this one). A shell between two commands of a pasted
        block has reported too: it sleeps at most in `wait` or `read`, with line editing off.
        """
        if view.tty != self._device[0]:
            self._device = view.tty, procfs.terminal_device(view.tty)
        for pid in reversed(self.status_of):
            fields = procfs.stat_fields(pid)
            if not fields or fields[0] != b"S" or fields[2] != fields[5]:
                continue
            tty = view.tty
            if int(fields[4]) != self._device[1]:
                tty = self.foreground(view)[0]
                if int(fields[4]) != procfs.terminal_device(tty):
                    continue
            if not procfs.terminal_modes(tty)[0]:
                return pid
        return None

    def foreground(self, view: View) -> tuple[str, list[int]]:
        """Return the innermost terminal and the processes that have its foreground (none where they
        cannot be found).
        """
        tty, pid = view.tty, view.pane_pid
        leader = procfs.foreground(pid)
        for _ in range(8):
            inside = procfs.inner_terminal(leader) if procfs.comm(leader) in _RELAYS else None
            if inside is None:
                break
            tty, pid = inside
            leader = procfs.foreground(pid)
        if procfs.alive(leader):
            return tty, [leader]
        return tty, [
            child
            for child in procfs.children(pid)
            if procfs.stat_fields(child)[2:3] == [b"%d" % leader]
        ]

    def waited_for(self, view: View) -> bool:
        """Whether whoever is in the foreground waits for input from the terminal."""
        tty, members = self.foreground(view)
        if any(procfs.stat_fields(pid)[:1] != [b"S"] for pid in members):
            return False
        by_line, echo = procfs.terminal_modes(tty)
        if not by_line:
            return not any(procfs.comm(pid) in _RELAYS for pid in members)
        if not echo:
            return True
        # Who waits for the network waits at the same place of the kernel: a mail client is not to
        # be taken for a question.
        return any(
            procfs.read_at(procfs.PROC, f"{pid}/wchan", 64) in _READERS
            and not procfs.has_socket(pid)
            for pid in members
        )

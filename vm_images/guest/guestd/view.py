"""Where the terminal stands, as tmux and the kernel say."""

from __future__ import annotations

from typing import NamedTuple

import procfs
from port import monotonic
from text import TerminalError
from tmux import Reply

FORMAT = (
    "#{pane_active} #{pane_pid} #{pane_tty} #{pid}"
    " #{history_size} #{history_limit} #{cursor_x} #{cursor_y} #{pane_height} #{alternate_on}"
    " #{alternate_on}#{insert_flag}#{keypad_flag}#{keypad_cursor_flag}#{origin_flag}"
    "#{wrap_flag}#{mouse_any_flag}#{cursor_flag}"
    ",#{scroll_region_upper},#{scroll_region_lower} #{pane_path}"
)


class Unavailable(TerminalError):
    """The terminal cannot be reached: tmux or the shell has been ended or broken, which the agent
    is free to do.
    """


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
        return cls(
            int(pane), tty, int(server), history, limit, x, y, height, alternate == "1", modes, path
        )

    def normal(self) -> bool:
        """Whether the screen is in the modes in which a shell expects it."""
        return self.modes == f"00000101,0,{self.height - 1}"


class End(NamedTuple):
    """How a command ended: "prompt", "other prompt" (a shell without the hook), "input" (somebody
    waits for it), "deadline".
    """

    how: str
    view: View
    shell: int = 0


class Quiet:
    """How long the tmux server has read nothing: neither output of the terminal nor keys."""

    def __init__(self, server_pid: int) -> None:
        self._pid = server_pid
        self._read, self._since = procfs.bytes_read(server_pid), monotonic()

    def seconds(self) -> float:
        """Return the seconds since something was last read, seen from the calls of this method.

        A server that does not sleep has more to read: on a busy computer it may only not have had
            its turn.
        """
        asleep = procfs.stat_fields(self._pid)[:1] in ([b"S"], [])
        read, now = procfs.bytes_read(self._pid), monotonic()
        if read != self._read or not asleep:
            self._read, self._since = read, now
        return now - self._since

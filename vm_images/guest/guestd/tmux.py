"""A silent control client of the tmux server whose session the desktop's terminal window shows.

One `tmux -C attach` process lives as long as the session; commands go to the server through its
stdin and replies come back on its stdout, so that typing and reading cost a message instead of a
fork. The server belongs to the agent: what it says is bounded and never believed.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
from collections import deque
from collections.abc import Callable

from port import Loop
from spawn import environment, spawn

_MAX_REPLY = 8 << 20
_ESCAPES = str.maketrans(
    {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
)


def quote(text: str) -> str:
    """Return `text` as one argument of a tmux command line; of control characters only newline,
    return and tab may be in it.
    """
    return '"' + text.translate(_ESCAPES) + '"'


class Reply:
    """What tmux answers to one command."""

    __slots__ = ("done", "error", "lines")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.done = self.error = False

    def text(self) -> list[str]:
        return [line.decode(errors="replace").rstrip() for line in self.lines]


class Tmux:
    """The control client; `wake` is called whenever something has changed."""

    def __init__(
        self,
        loop: Loop,
        label: str,
        session: str,
        user: pwd.struct_passwd,
        wake: Callable[[], None],
    ) -> None:
        self._loop, self._user, self._wake = loop, user, wake
        self._base = ["tmux", "-u", "-L", label]
        self.target = f"={session}:"
        self._session = session
        self._stdin = self._stdout = self._pid = -1
        self._buffer = bytearray()
        self._block: Reply | None = None
        self._guard = b""
        self._size = 0
        self._waiting: deque[Reply] = deque()
        self.attached = False

    @property
    def alive(self) -> bool:
        """Whether the client process runs (it may not have attached yet)."""
        return self._pid > 0

    def attach(self) -> None:
        """Start the client; `attached` turns true once the session is there, `alive` false when it
        is not.
        """
        (in_read, self._stdin), (self._stdout, out_write) = os.pipe(), os.pipe()
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        argv = [
            *self._base,
            "-N",
            "-C",
            "attach-session",
            "-t",
            f"={self._session}",
            "-f",
            "ignore-size,no-output",
        ]
        try:
            # tmux 3.3 never lets go of a control client whose pipes are broken, and then cannot end
            # its server either.
            stdio = (in_read, out_write, null)
            self._pid = spawn(
                argv, self._user, environment(self._user), "/", stdio, ends_with_daemon=True
            )
        finally:
            for fd in (in_read, out_write, null):
                os.close(fd)
        os.set_blocking(self._stdout, False)
        os.set_blocking(self._stdin, False)
        self._loop.watch(self._stdout, select.EPOLLIN, lambda _events: self._read())

    def start_session(self, shell: str | None, width: int = 100, height: int = 28) -> None:
        """Start the session anew, without waiting for it."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        argv = [
            *self._base,
            "new-session",
            "-d",
            "-s",
            self._session,
            "-x",
            str(width),
            "-y",
            str(height),
        ]
        env = environment(self._user) | {"TERM": "screen-256color"}
        pid = spawn([*argv, shell] if shell else argv, self._user, env, None, (null, null, null))
        os.close(null)
        pidfd = os.pidfd_open(pid)
        self._loop.watch(pidfd, select.EPOLLIN, lambda _events: self._reap(pid, pidfd))

    def _reap(self, pid: int, pidfd: int) -> None:
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        os.waitpid(pid, 0)
        self._wake()

    def send(self, *commands: str) -> list[Reply]:
        """Send commands (built with `quote`) in one write; the replies fill up as tmux answers."""
        replies = [Reply() for _ in commands]
        data = ("\n".join(commands) + "\n").encode()
        try:
            # A pipe holds 64 KiB and tmux empties it; a client that takes no more is of no use.
            if self._pid <= 0 or os.write(self._stdin, data) != len(data):
                raise BrokenPipeError
        except (BrokenPipeError, BlockingIOError):
            self.detach()
            for reply in replies:
                reply.done = reply.error = True
            return replies
        self._waiting.extend(replies)
        return replies

    def private_fds(self) -> list[int]:
        """Return the descriptors that a fork must not keep."""
        return [fd for fd in (self._stdin, self._stdout) if fd >= 0]

    def detach(self) -> None:
        """End the client; every reply that is still awaited turns into an error."""
        if self._pid <= 0:
            return
        self._loop.unwatch(self._stdout)
        os.close(self._stdin)
        os.close(self._stdout)
        try:
            os.kill(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self._pid, 0)
        self._stdin = self._stdout = self._pid = -1
        self.attached = False
        self._buffer.clear()
        self._block = None
        for reply in self._waiting:
            reply.done = reply.error = True
        self._waiting.clear()
        self._wake()

    def _read(self) -> None:
        try:
            data = os.read(self._stdout, 262144)
        except BlockingIOError:
            return
        if not data or len(self._buffer) > _MAX_REPLY:
            self.detach()
            return
        self._buffer += data
        end = self._buffer.rfind(b"\n")
        if end < 0:
            return
        lines = bytes(self._buffer[:end]).split(b"\n")
        del self._buffer[: end + 1]
        for line in lines:
            self._line(line)
        if self._size > _MAX_REPLY:
            self.detach()
            return
        self._wake()

    def _line(self, line: bytes) -> None:
        """Take one line: a reply stands between "%begin T N F" and "%end T N F" or "%error T N F";
        F is 1 for our commands.
        """
        if self._block is not None:
            if line.endswith(self._guard) and line in (
                b"%end" + self._guard,
                b"%error" + self._guard,
            ):
                self._block.error = line.startswith(b"%error")
                self._block.done = True
                self._block = None
            else:
                self._block.lines.append(line)
                self._size += len(line)
        elif line.startswith(b"%begin "):
            self._guard = line[6:]
            self._size = 0
            ours = line.endswith(b" 1") and self._waiting
            self._block = self._waiting.popleft() if ours else Reply()
        elif line.startswith(b"%session-changed "):
            self.attached = True

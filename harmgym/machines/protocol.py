"""The machine protocol: what every kind of machine (QEMU, fake, …) promises, and its states.

A machine is a desktop computer that is restored from a snapshot, driven by keyboard, pointer and
terminal, looked at through its screen, and judged from its disk and its journals. Times are seconds
unless a name says otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harmgym.disk import DiskView
from harmgym.errors import StateError
from harmgym.machines.survey import Process, Survey, Writer
from harmgym.records import Record

__all__ = [
    "ATTEMPT_S",
    "ExecResult",
    "JournalEntry",
    "Machine",
    "MachineState",
    "Process",
    "Screenshot",
    "ShellResult",
    "Survey",
    "Writer",
    "require",
]
Screenshot = NDArray[np.uint8]
ATTEMPT_S = 20.0
"""One attempt of `wait_until_succeeds`: a command that hangs now may succeed at the next attempt.
"""


class MachineState(enum.Enum):
    """Life of a machine; every call names the states it needs."""

    NEW = "new"
    PAUSED = "paused"
    RUNNING = "running"
    STOPPED = "stopped"
    BROKEN = "broken"


def require(call: str, state: MachineState, *allowed: MachineState) -> None:
    """Raise StateError unless `state` is one of `allowed`."""
    if state not in allowed:
        raise StateError(call, " or ".join(s.value for s in allowed), state.value)


class JournalEntry(Record):
    """One line of the host's append-only journal; the guest can add lines, never change or remove
    one.

    `source` is "app:<name>", "process" or "channel"; `t_host` is seconds on the host's monotonic
    clock, `t_guest` seconds since guest boot (0.0 where unknown); `uid`, `pid` are the sender's, -1
    where there is none. `writer`: who it was, of a line that came over an app's own connection;
    None of one that anybody may have sent in its name.
    """

    seq: int
    t_host: float
    t_guest: float
    source: str
    uid: int
    pid: int
    data: dict[str, Any]
    writer: Writer | None = None


class ExecResult(Record):
    """Outcome of a command run beside the terminal; `status` is the exit status, negative for a
    signal.
    """

    status: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False


class ShellResult(Record):
    """Outcome of a command typed into the terminal; `status` is None when it never returned to the
    prompt.
    """

    status: int | None
    text: str
    finished: bool
    interrupted: bool
    truncated: bool
    seconds: float


@runtime_checkable
class Machine(Protocol):
    """A restored desktop. Any method may raise MachineError, after which the machine is BROKEN;
    `stop` always works.

    Two kinds of error break nothing. An answer that says no (a missing file, a command with another
    status, Python code that raised or ran too long) is a GuestError from a guest that works. And a
    guest that closed its end of the channel by itself can still be paused, looked at and judged
    from its disk. A GuestTimeout is never such an answer: nobody knows what the guest does next.
    """

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> MachineState: ...
    @property
    def folder(self) -> Path:
        """Where the machine keeps evidence: command line, serial log, transcript."""
        ...

    def resume(self) -> None:
        """Let guest time run."""
        ...

    def pause(self) -> None:
        """Freeze guest time; the screen can still be read."""
        ...

    def stop(self) -> None:
        """End the machine, softly, then hard, then prove that nothing is left. Idempotent."""
        ...

    # Display
    def screenshot(self) -> Screenshot:
        """Return the screen, uint8 (800, 1280, 3), RGB. A fresh array every time."""
        ...

    def wait_until_stable(
        self, cap_s: float = 1.0, between: Callable[[], object] | None = None
    ) -> Screenshot:
        """Wait until screen and terminal stop changing, at most `cap_s`; return the last
        screenshot.

        `between` may be called, any number of times, between two screenshots of a screen that has
        changed.
        """
        ...

    # Input: sent exactly once, never repeated
    def move(self, x: int, y: int) -> None: ...
    def button(self, button: str, down: bool) -> None: ...
    def scroll(self, dx: int, dy: int) -> None: ...
    def press(self, keys: str) -> None:
        """Press a chord such as "ctrl+alt+t". Raises: ActionError naming an unknown key."""
        ...

    def type_text(self, text: str) -> None:
        """Type text. Raises: ActionError naming the first character that has no key; nothing is
        typed then.
        """
        ...

    # Terminal
    def shell(
        self, command: str, timeout_s: float = 30.0, max_chars: int = 16000
    ) -> ShellResult: ...
    def terminal(self, max_chars: int = 16000) -> str:
        """Return the text that the terminal window shows."""
        ...

    # Beside the terminal (set-up and judging; never used on behalf of an agent)
    def execute(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> ExecResult: ...
    def succeed(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> str:
        """Return stdout; raise GuestError with both outputs when the status is not 0."""
        ...

    def wait_until_succeeds(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> str:
        """Repeat a command until its status is 0; return its stdout.

        An attempt that hangs is cut after ATTEMPT_S and tried again. Raises: GuestTimeout with the
        last outcome after `timeout_s`.
        """
        ...

    def put(self, path: str, data: bytes, mode: int = 0o644, owner: str = "root") -> None:
        """Write a file in the guest (parents are made)."""
        ...

    def get(self, path: str, max_bytes: int = 1 << 20) -> bytes: ...
    def run_python(
        self, source: str, args: Mapping[str, object] | None = None, timeout_s: float = 10.0
    ) -> Any:
        """Run `main(**args)` of `source` inside the guest without touching its disk; return its
        JSON value.
        """
        ...

    def processes(self) -> tuple[Process, ...]: ...
    def units(self) -> dict[str, tuple[int, ...]]:
        """Return the live systemd units and their process ids, from the kernel's cgroup tree."""
        ...

    def survey(self) -> Survey:
        """Return all that is alive, asked in one go. Raises: GuestError when the answer makes no
        sense.
        """
        ...

    def journal(self) -> tuple[JournalEntry, ...]: ...
    def sync(self) -> None:
        """Write the guest's dirty pages to its disk, so that the disk can be read from outside."""
        ...

    def disk_view(self) -> DiskView:
        """Return the guest's files as its disk holds them now, read without asking the guest.

        Allowed only when PAUSED or STOPPED: a disk that changes under its reader makes no sense.
        What the guest has not yet written is not there; call `sync` first. The view is valid until
        the machine runs again or its folder is removed. Raises: DiskError, or CorruptFileSystem,
        which is one, where the disk makes no sense; the machine is not BROKEN by that.
        """
        ...

    def unplugged(self) -> tuple[str, ...]:
        """Return the devices of disk and channel that the guest's kernel has let go of, as the host
        sees it: nothing reaches them any more, whatever the guest says.
        """
        ...

    def disk_chain(self) -> tuple[Path, ...]:
        """Return the disk's files, newest first: (overlay, …, raw image). Read them only while the
        machine is paused.
        """
        ...
